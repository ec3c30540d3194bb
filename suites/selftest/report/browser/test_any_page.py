"""What holds of every page, whatever run it is of: quiet, self-contained, accessible, narrow, printable, harmless."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kinds_of_runs import KINDS, POISON

from fixtures.chromium import Opened, Scheme, Visit

pytest_plugins = ["opening"]

PageOf = Callable[[str], Path]
every_kind = pytest.mark.parametrize("kind", KINDS)
# Enough cases for one of each verdict and figure: checking a case costs a fifth of a second.
MOST = 8
# What the keyboard must reach: all that can be operated and is seen. Of the radio buttons of a group one is.
OPERABLE = """() => [...document.querySelectorAll(
    'a[href], button, input, select, textarea, summary, [tabindex="0"], [role=button], [role=tab], [role=option]')]
  .filter((node) => node.checkVisibility({ visibilityProperty: true }) && !node.disabled && node.tabIndex >= 0)
  .filter((node) => node.type !== "radio" || node.checked)
  .map((node, number) => { node.dataset.operable = number; return node.outerHTML.slice(0, 120); })"""
FOCUSED = """() => {
  const node = document.activeElement;
  if (!node || node === document.body) return null;
  const style = getComputedStyle(node);
  const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  return [node.dataset.operable ?? null, ring || style.boxShadow !== "none", node.outerHTML.slice(0, 120)];
}"""
# What sticks out to the right of the window, unless something around it scrolls or cuts.
STICKING_OUT = """() => [...document.body.querySelectorAll("*")].filter((node) => {
  if (!node.checkVisibility() || node.getBoundingClientRect().right <= innerWidth + 1) return false;
  for (let at = node.parentElement; at; at = at.parentElement)
    if (getComputedStyle(at).overflowX !== "visible") return false;
  return true;
}).map((node) => `${node.tagName} ${node.className.baseVal ?? node.className}: ${node.textContent.slice(0, 60)}`)"""


# Sections and cases that are still to be filled.
EMPTY = """[...document.querySelectorAll("main section > div[id], details.case[open] > .body")]
  .filter((node) => !node.childElementCount).map((node) => node.id || node.parentElement.id)"""


def tabbed(visit: Visit, most: int = 400) -> list[tuple[str | None, bool, str]]:
    """Press Tab until the page is left, and return where the focus was: number, whether it is seen, element."""
    stops: list[Any] = []
    for _ in range(most):
        visit.page.keyboard.press("Tab")
        stop = visit.page.evaluate(FOCUSED)
        if stop is None:
            return stops
        stops.append(tuple(stop))
    raise AssertionError(f"the focus does not leave the page: {stops[-3:]}")


def assert_none(found: list[str]) -> None:
    """Fail with what was found, a line each."""
    assert not found, f"{len(found)} in all:\n" + "\n".join(found[:20])


@every_kind
def test_a_page_is_quiet_and_asks_for_nothing(opened: Opened, page_of: PageOf, kind: str) -> None:
    visit = opened(page_of(kind))
    visit.unfold(MOST)
    assert visit.page.title().startswith("Lockstep")


# What "later" holds is of every kind: changes, studies, findings, faults, times and figures.
@pytest.mark.parametrize("kind", ["real", "later", "hostile", "empty", "compared"])
def test_axe_finds_nothing(opened: Opened, page_of: PageOf, kind: str) -> None:
    visit = opened(page_of(kind))
    visit.unfold(MOST)
    assert_none(visit.run_axe())


@pytest.mark.parametrize("kind", ["later"])
def test_contrast_passes_in_the_dark(opened: Opened, page_of: PageOf, kind: str) -> None:
    visit = opened(page_of(kind), scheme="dark")
    visit.unfold(MOST)
    assert_none(visit.run_axe(runOnly=["color-contrast", "link-in-text-block"]))


@pytest.mark.parametrize("kind", ["later"])
def test_axe_finds_nothing_on_a_narrow_screen(opened: Opened, page_of: PageOf, kind: str) -> None:
    visit = opened(page_of(kind), width=375)
    visit.unfold(2)
    assert_none(visit.run_axe())


@every_kind
def test_nothing_sticks_out_of_a_narrow_screen(opened: Opened, page_of: PageOf, kind: str) -> None:
    visit = opened(page_of(kind), width=375)
    visit.unfold(MOST)
    assert_none(visit.page.evaluate(STICKING_OUT))
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("kind", ["later", "compared"])
def test_the_keyboard_reaches_all_that_can_be_operated_and_shows_where_it_is(
    opened: Opened, page_of: PageOf, kind: str
) -> None:
    visit = opened(page_of(kind))
    visit.unfold(2)
    operable = visit.page.evaluate(OPERABLE)
    stops = tabbed(visit)
    reached = {number for number, _, _ in stops}
    assert_none([node for number, node in enumerate(operable) if str(number) not in reached])
    assert_none([node for _, seen, node in stops if not seen])


@pytest.mark.parametrize("kind", ["real", "poisoned"])
def test_all_that_can_be_focused_has_a_name(opened: Opened, page_of: PageOf, kind: str) -> None:
    visit = opened(page_of(kind))
    visit.unfold(MOST)
    session = visit.page.context.new_cdp_session(visit.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    nameless = [
        node["role"]["value"]
        for node in nodes
        if not node["ignored"]
        and any(prop["name"] == "focusable" and prop["value"]["value"] for prop in node.get("properties", ()))
        and not node.get("name", {}).get("value", "").strip()
    ]
    # A block that only scrolls is read by its content.
    assert_none([role for role in nameless if role not in {"generic", "Pre"}])


@pytest.mark.parametrize(
    ("kind", "scheme"), [("later", "light"), ("real", "dark"), ("poisoned", "light"), ("compared", "dark")]
)
def test_a_page_prints_dark_on_white(opened: Opened, page_of: PageOf, kind: str, scheme: Scheme) -> None:
    visit = opened(page_of(kind), scheme=scheme)
    # What is there when the page's own listeners are through is what comes on paper.
    visit.page.evaluate(f"() => addEventListener('beforeprint', () => {{ window.missing = {EMPTY}; }})")
    for _ in range(10):  # a page that was just opened needs a moment until it can be printed
        assert visit.page.pdf(format="A4").startswith(b"%PDF-")
        if not visit.page.evaluate("window.missing.length"):
            break
    assert_none(visit.page.evaluate("window.missing"))
    visit.page.emulate_media(media="print")
    paper, ink = visit.page.evaluate(
        """() => [document.documentElement, document.body].map((node) => getComputedStyle(node).backgroundColor)
          .concat(getComputedStyle(document.body).color).slice(1)"""
    )
    assert paper in {"rgb(255, 255, 255)", "rgba(0, 0, 0, 0)"}, paper
    assert max(map(int, ink.removeprefix("rgb(").rstrip(")").split(","))) < 60, ink
    assert_none(visit.run_axe(runOnly=["color-contrast"]))


@pytest.mark.parametrize("kind", ["poisoned", "hostile", "poisoned-compared"])
def test_markup_in_any_field_is_text_and_runs_nothing(opened: Opened, page_of: PageOf, kind: str) -> None:
    visit = opened(page_of(kind))
    visit.unfold(40)
    # What waits to be hovered, focused or followed gets its chance.
    visit.page.evaluate("() => document.querySelectorAll('*').forEach((node) => node.focus && node.focus())")
    assert visit.page.evaluate("window.hurt") is None
    assert not visit.page.evaluate("document.querySelectorAll('img, [onerror], [onfocus], [onload]').length")
    links = visit.page.evaluate("[...document.links].map((link) => link.getAttribute('href'))")
    assert not [link for link in links if link.lower().startswith("javascript:")]
    assert "<script>" in visit.page.evaluate("document.body.innerText")


def test_poison_would_be_seen_if_it_worked(opened: Opened, tmp_path: Path) -> None:
    """The negative control: without the page's policy and its escaping the same text runs."""
    path = tmp_path / "index.html"
    path.write_bytes(f"<html data-ready=yes><main>{POISON}</main>".encode("utf-8", "replace"))
    visit = opened(path)
    assert visit.page.evaluate("window.hurt")
    visit.complaints.clear()


def test_what_a_page_must_not_do_is_noticed(opened: Opened, tmp_path: Path) -> None:
    """The negative control of everything above: a page that does it all."""
    path = tmp_path / "index.html"
    path.write_text(
        "<html data-ready=yes><title>x</title><body style='color:#999'><button></button><i>pale</i>"
        "<div style='width:600px;outline:0' tabindex=0>wide</div><img src=other.png>"
        "<script>console.error('said'); setTimeout(() => { throw new Error('thrown') })</script>",
        encoding="utf-8",
    )
    visit = opened(path, width=375)
    visit.page.wait_for_timeout(0)
    assert any("said" in complaint for complaint in visit.complaints)
    assert any("thrown" in complaint for complaint in visit.complaints)
    assert any("other.png" in complaint for complaint in visit.complaints)
    assert {told.partition(" ")[0] for told in visit.run_axe()} >= {"button-name", "color-contrast", "image-alt"}
    assert visit.page.evaluate(STICKING_OUT)
    assert visit.page.evaluate(OPERABLE)
    assert [seen for _, seen, _ in tabbed(visit)] == [True, False]
    visit.complaints.clear()
