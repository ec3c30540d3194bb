"""What a reader does with the page: follow a verdict to its case, filter, sort, choose a baseline, copy, print."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kinds_of_runs import EARLIER
from questions import AT_REST, open_case

from fixtures.chromium import Opened
from fixtures.many_records import write_many
from fixtures.sample_records import RUN, sample
from harness.report import write
from harness.store import merge

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytest_plugins = ["opening"]

PageOf = Callable[[str], Path]
# No test of speed, which the benchmark is: far above what the page takes, far below what a reader calls frozen.
FROZEN_MS = 4_000


@pytest.fixture
def page(opened: Opened, page_of: PageOf) -> Page:
    """A page of made-up records: 17 cases with evidence, two of them with a fault, and some that were not run."""
    return opened(page_of("sample")).page


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 10,000 records."""
    return write(write_many(tmp_path_factory.mktemp("many") / RUN))


def listed(page: Page) -> list[str]:
    """Return the names of the cases that the list shows."""
    return page.locator("#cases details.case .name").all_inner_texts()


def chosen(page: Page, label: str) -> Locator:
    return page.locator("#cases label", has_text=re.compile(f"^{label}")).locator("input, select")


def test_the_first_screen_has_the_question_the_answer_and_what_was_not_verified(page: Page) -> None:
    for told in (page.locator("h1"), page.locator(".question"), page.locator(".unseen")):
        box = told.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 900


def test_the_list_is_narrowed_by_words_in_any_order(page: Page) -> None:
    everything = listed(page)
    page.get_by_label("Find").fill("ddp digits")
    assert 0 < len(listed(page)) < len(everything)
    assert all("ddp" in name and "digits" in name for name in listed(page))
    assert page.get_by_role("status").inner_text().startswith(f"{len(listed(page))} of ")
    page.get_by_label("Find").fill("no such thing")
    assert listed(page) == []
    page.get_by_label("Find").fill("")
    assert listed(page) == everything


@pytest.mark.parametrize(("control", "value"), [("Verdict", "different"), ("Framework", "tensorflow"), ("Ranks", "4")])
def test_the_list_is_narrowed_by_what_is_chosen(page: Page, control: str, value: str) -> None:
    everything = listed(page)
    chosen(page, control).select_option(value)
    narrowed = listed(page)
    assert 0 < len(narrowed) < len(everything)
    said = set(page.locator("#cases details.case .verdict").all_inner_texts())
    fits = {
        "Verdict": [value] * len(said) == list(said),
        "Framework": all("tf-" in name or "keras" in name for name in narrowed),
        "Ranks": all("/4/" in name for name in narrowed),
    }
    assert fits[control]


def test_two_filters_hold_together(page: Page) -> None:
    chosen(page, "Framework").select_option("torch")
    page.get_by_label("Find").fill("cnn")
    assert listed(page)
    assert all("cnn" in name and "tf-" not in name for name in listed(page))


def test_the_list_is_sorted_as_chosen(page: Page) -> None:
    by_gravity = listed(page)
    chosen(page, "Order").select_option("name")
    assert sorted(listed(page)) == listed(page) != by_gravity
    chosen(page, "Order").select_option("speedup")
    figures = [float(told.split("x")[0]) for told in page.locator("#cases .case .aside").all_inner_texts() if told]
    assert figures == sorted(figures, reverse=True)
    assert len(figures) > 5


def test_a_count_of_the_first_screen_lists_those_cases(page: Page) -> None:
    page.locator(".tally a", has_text="not verified").click()
    assert set(page.locator("#cases .case .verdict").all_inner_texts()) == {"not verified"}
    assert chosen(page, "Verdict").input_value() == "not verified"


def test_a_verdict_of_the_matrix_leads_to_its_case(page: Page) -> None:
    cell = page.locator("#matrix a.different").first
    cell.click()
    body = open_case(page)
    assert page.url.endswith(str(cell.get_attribute("href")))
    assert "digits-cnn/tf-mirrored/2/cpu" in body.inner_text()
    assert "differs first at step 0" in body.inner_text()
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_the_keyboard_alone_leads_from_the_matrix_to_a_case_and_back(page: Page) -> None:
    page.locator("#matrix a.different").first.focus()
    page.keyboard.press("Enter")
    open_case(page)
    page.keyboard.press("Space")
    assert page.locator("details.case[open]").count() == 0
    page.keyboard.press("Enter")
    assert page.locator("details.case[open]").count() == 1


def test_a_link_to_a_case_opens_it_though_a_filter_hides_it(page: Page) -> None:
    page.get_by_label("Find").fill("no such thing")
    page.evaluate("location.hash = '#case-3'")
    assert open_case(page).get_attribute("id") == "case-3"
    assert chosen(page, "Find").input_value() == ""


def test_a_page_opened_by_a_link_to_a_case_shows_that_case(opened: Opened, page_of: PageOf) -> None:
    page = opened(page_of("sample"), fragment="case-5").page
    assert open_case(page).get_attribute("id") == "case-5"
    box = open_case(page).bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 900


@pytest.mark.parametrize("name", ["Cases", "Oracle"])
def test_a_section_is_where_its_link_leads_though_what_is_above_it_is_drawn_on_the_way(page: Page, name: str) -> None:
    link = page.get_by_role("navigation").get_by_role("link", name=name)
    link.click()
    top = page.locator(str(link.get_attribute("href")))
    page.wait_for_function(AT_REST)
    box = top.bounding_box()
    assert box is not None
    # The last of them cannot come to the top.
    at_end = page.evaluate("scrollY + innerHeight > document.documentElement.scrollHeight - 2")
    assert 0 <= box["y"] < (900 if at_end else 200)


@pytest.mark.parametrize("fragment", ["case-99999", "case--1", "case-1e9", "'><script>window.hurt=1</script>", "%00"])
def test_a_link_to_nothing_does_no_harm(opened: Opened, page_of: PageOf, fragment: str) -> None:
    page = opened(page_of("sample"), fragment=fragment).page
    assert page.locator("details.case[open]").count() == 0
    assert page.evaluate("window.hurt") is None


def test_a_case_shows_its_evidence_its_figures_and_how_to_repeat_it(page: Page) -> None:
    page.locator("#matrix a.equivalent").first.click()
    body = open_case(page)
    for told in ("Loss", "Divergence", "Samples as they came", "Repeat this case"):
        body.get_by_text(told, exact=True).first.wait_for()
    assert body.locator("svg.drawn, figure svg").count() >= 4
    assert "pytest suites/conformance" in body.locator(".command code").inner_text()


def test_the_numbers_of_a_chart_are_there_as_a_table(page: Page) -> None:
    page.locator("#matrix a.equivalent").first.click()
    numbers = open_case(page).locator("details.numbers").first
    numbers.locator("summary").click()
    numbers.locator("table").wait_for()
    assert numbers.locator("tbody tr").count() > 1


def test_a_command_is_copied_where_the_page_may(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#matrix a.different").first.click()
    command = open_case(page).locator(".command")
    command.get_by_role("button").click()
    command.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == command.locator("code").inner_text()


def test_a_command_is_marked_where_the_page_may_not_copy(page: Page) -> None:
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed')); }")
    page.locator("#matrix a.different").first.click()
    command = open_case(page).locator(".command")
    command.get_by_role("button").click()
    command.get_by_text("Press Ctrl+C").wait_for()
    assert page.evaluate("getSelection().toString()") == command.locator("code").inner_text()


def test_the_baseline_of_the_speed_ups_is_chosen(page: Page) -> None:
    page.locator("#times").scroll_into_view_if_needed()
    forest = page.locator("#times svg").first
    before = forest.get_attribute("aria-label")
    choice = page.get_by_label("Speed-up over")
    choice.select_option(index=1)
    label = choice.locator("option").nth(1).inner_text()
    page.locator(f"#times svg[aria-label*='{label}']").first.wait_for()
    assert page.locator("#times svg").first.get_attribute("aria-label") != before


def test_the_times_of_so_many_ranks_are_chosen(page: Page) -> None:
    page.locator("#times").scroll_into_view_if_needed()
    page.locator("#times label", has_text="Ranks").locator("select").select_option("4")
    assert {told.split()[0] for told in page.locator("#times tbody td:nth-child(2)").all_inner_texts()} == {"4"}


def test_the_run_to_compare_with_is_chosen(opened: Opened, page_of: PageOf) -> None:
    page = opened(page_of("later")).page
    page.locator("#changes").scroll_into_view_if_needed()
    runs = page.get_by_role("radio")
    runs.first.wait_for()
    assert runs.count() == 2
    told = page.locator("#changes .comparison")
    before = told.inner_text()
    runs.first.focus()
    page.keyboard.press("ArrowDown")
    assert runs.nth(1).is_checked()
    assert {earlier in before for earlier in EARLIER} == {True, False}
    assert {earlier in told.inner_text() for earlier in EARLIER} == {True, False}
    assert told.inner_text() != before


def test_a_struck_time_is_nowhere_a_speed_up(page: Page) -> None:
    page.locator("#times").scroll_into_view_if_needed()
    row = page.locator("#times tr", has_text="tf-mirrored").filter(has=page.locator("s"))
    row.first.wait_for()
    assert "x [" not in row.first.inner_text()


def test_what_was_folded_before_printing_is_folded_after_it(page: Page) -> None:
    page.locator("#matrix a.different").first.click()
    open_case(page)
    page.pdf()
    assert page.locator("details.case[open]").count() == 1


def test_without_scripts_the_answer_and_its_gaps_are_still_told(opened: Opened, page_of: PageOf) -> None:
    page = opened(page_of("sample"), scripts=False).page
    assert "equal" in page.locator("h1").inner_text()
    assert page.get_by_text("needs 2 CUDA devices").first.is_visible()
    assert page.locator("noscript").inner_text()


def test_ten_thousand_cases_are_listed_filtered_and_opened_without_freezing(opened: Opened, many: Path) -> None:
    visit = opened(many, before=LONGEST)
    page = visit.page
    count = page.locator("#cases .count")
    assert len(listed(page)) == 100
    page.locator("#cases .more").click()
    assert len(listed(page)) == 200
    page.get_by_label("Find").fill("torch-ddp vit-adamw 4")
    assert 0 < len(listed(page)) <= 100
    assert all("torch-ddp" in name and "vit-adamw" in name for name in listed(page))
    page.get_by_label("Find").fill("")
    chosen(page, "Order").select_option("name")
    assert count.inner_text()
    page.locator("#cases details.case summary").nth(50).click()
    open_case(page)
    assert page.evaluate("window.longestMs") < FROZEN_MS


def test_the_last_of_ten_thousand_cases_is_found_by_its_link(opened: Opened, many: Path) -> None:
    page = opened(many, fragment="case-9999").page
    assert open_case(page).get_attribute("id") == "case-9999"


def test_every_case_of_the_run_is_in_the_list(page: Page) -> None:
    chosen(page, "Show").select_option("both")
    assert len(listed(page)) == len(merge(sample()))


def test_a_word_of_a_verdict_finds_its_cases(page: Page) -> None:
    page.get_by_label("Find").fill("inconclusive")
    assert set(page.locator("#cases .case .verdict").all_inner_texts()) == {"inconclusive"}


def test_a_case_that_is_equal_to_something_else_is_marked_wherever_it_stands(page: Page) -> None:
    assert page.locator("#matrix a", has_text="equivalent*").count() == 3
    assert page.locator("#cases .case summary", has_text="to per-shard-batchnorm").count() == 2
    assert page.locator(".legend dt", has_text="*").count() == 1


def test_a_table_of_times_shows_all_it_has_and_one_that_scrolls_says_so(opened: Opened, page_of: PageOf) -> None:
    page = opened(page_of("sample")).page
    page.locator("#times").scroll_into_view_if_needed()
    table = page.locator("#times .wide").first
    assert table.evaluate("(node) => node.scrollWidth <= node.clientWidth")
    assert page.locator("#times .more-right").count() == 0
    page.set_viewport_size({"width": 375, "height": 900})
    page.locator("#times .more-right").first.wait_for()
    page.locator("#times .more-right").first.evaluate("(node) => node.scrollTo(9999, 0)")
    page.locator("#times .more-left:not(.more-right)").first.wait_for()


def test_a_chart_of_many_rows_says_how_many_it_shows_and_shows_all(opened: Opened, page_of: PageOf) -> None:
    page = opened(page_of("later")).page
    page.locator("#studies").scroll_into_view_if_needed()
    note = page.get_by_text("The chart shows the first 40 of 52.")
    note.wait_for()
    chart = page.locator("#studies .study", has_text="Published curves").locator("svg.drawn")
    labels = [text for text in chart.locator("text").all_text_contents() if "…" in text]
    assert len(set(labels)) == len(labels) > 30, "cut alike, they cannot be told apart"
    before = chart.locator("circle").count()
    note.get_by_role("button").click()
    assert (before, chart.locator("circle").count()) == (40, 52)
    assert note.count() == 0
    assert "Predicted" in page.locator("#studies .study", has_text="Published curves").locator("thead").inner_text()


def test_a_chart_is_as_wide_as_the_screen(opened: Opened, page_of: PageOf) -> None:
    page = opened(page_of("later"), width=375).page
    for place in ("#studies", "#changes"):
        page.locator(place).scroll_into_view_if_needed()
        chart = page.locator(f"{place} .fitted svg").first
        chart.wait_for()
        assert chart.evaluate("(node) => node.viewBox.baseVal.width / node.getBoundingClientRect().width < 1.1")


def test_a_known_difference_and_a_fault_lead_to_their_own_cases(opened: Opened, page_of: PageOf) -> None:
    page = opened(page_of("later")).page
    page.locator("#findings").scroll_into_view_if_needed()
    page.locator("#findings summary").first.click()
    page.locator("#findings a").first.click()
    assert "mnist-cnn/torchgpipe" in open_case(page).inner_text()
    page.locator("#faults").scroll_into_view_if_needed()
    page.locator("#faults a.cell").first.click()
    assert page.locator("details.case[open]").last.locator("summary small").inner_text().startswith("injected fault: ")


def test_a_run_of_faults_alone_shows_what_became_of_them_first(opened: Opened, page_of: PageOf) -> None:
    page = opened(page_of("faults")).page
    assert page.locator("main > section").first.get_attribute("id") == "faults"
    assert page.get_by_role("navigation").get_by_role("link").first.inner_text() == "Faults"


LONGEST = """window.longestMs = 0;
new PerformanceObserver((list) => list.getEntries().forEach((task) => {
  window.longestMs = Math.max(window.longestMs, task.duration);
})).observe({ type: "longtask", buffered: true })"""
