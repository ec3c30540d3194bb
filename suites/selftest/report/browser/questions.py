"""What a newcomer asks a page, the clicks that lead to each answer, and what then stands in the window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fixtures.chromium import Visit

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

# Scrolling has ended where nothing has moved for ten frames.
AT_REST = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  for (let still = 0, at = scrollY; still < 10; at = scrollY) {
    await frame();
    still = scrollY === at ? still + 1 : 0;
  }
  return true;
}"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A question, the places to click for its answer (as Playwright finds them), and where that is with its words.

    A ``choice`` is made in a list after them, and counts as a click.
    """

    name: str
    asked: str
    clicks: tuple[str, ...]
    answer: str
    told: tuple[str, ...]
    choice: tuple[str, str] | None = None


QUESTIONS = (
    Question(
        name="wrong",
        asked="Which strategies are wrong, and why?",
        clicks=("#matrix a.different",),
        answer="details.case[open]",
        told=("tf-mirrored", "differs first at step 0, rank 1"),
    ),
    Question(
        name="faster",
        asked="How much faster is it on 4 GPUs, and how sure is that?",
        clicks=("nav a[href='#times']",),
        answer="#times tr:has-text('4 cuda')",
        told=("torch-ddp", "x ["),
        choice=("#times label:has-text('Ranks') select", "4"),
    ),
    Question(
        name="changed",
        asked="What changed since last week?",
        clicks=("nav a[href='#changes']", "#changes label:has-text('last week')"),
        answer="#changes .lead",
        told=("slower",),
    ),
    Question(
        name="untested",
        asked="What was not tested?",
        clicks=("a[href='#not-verified']",),
        answer="#not-verified .reason >> nth=0",
        told=("needs 2 CUDA devices, found 0", "torch-dp/2/cuda"),
    ),
    Question(
        name="repeat",
        asked="How do I repeat this one?",
        clicks=("#matrix a.different", "details.case[open] .command button"),
        answer="details.case[open] .command",
        told=("pytest suites/conformance", "tf-mirrored"),
    ),
)


def ask(visit: Visit, question: Question) -> None:
    """Click where the answer is looked for, and wait until the page is at rest."""
    for place in question.clicks:
        visit.page.locator(place).first.click()
        visit.settle()
        visit.page.wait_for_function(AT_REST)
    if question.choice:
        place, value = question.choice
        visit.page.locator(place).select_option(value)


def open_case(page: Page) -> Locator:
    """Return the case that is open, once it is filled in."""
    found = page.locator("details.case[open]")
    found.locator(".body > *").first.wait_for()
    return found
