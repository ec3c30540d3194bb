"""What a page keeps: the place of its reader when it loads itself again, and every column on paper."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from questions import open_case

from fixtures.chromium import Opened
from fixtures.sample_records import RUN, record, sample, write_run
from harness.report import write

pytest_plugins = ["opening"]

PageOf = Callable[[str], Path]
# What the page would do after a minute, to be done when a test is ready for it.
AT_ONCE = """window.setTimeout = ((wait) => (act, ms) => {
  if (ms === 60_000) window.loadAgain = act;
  return wait(act, ms);
})(window.setTimeout);"""


def test_a_page_that_loads_itself_again_comes_back_as_it_was_left(opened: Opened, tmp_path: Path) -> None:
    run = write_run(tmp_path / RUN, sample(), ended=False)
    page = opened(write(run, refresh_s=60), before=AT_ONCE).page
    page.get_by_label("Find").fill("digits-cnn")
    page.locator("#cases details.case", has_text="torchgpipe").locator("summary").click()
    name = open_case(page).locator(".name").inner_text()
    top = open_case(page).evaluate("(node) => { scrollBy(0, 137); return node.getBoundingClientRect().top; }")
    # Another case comes first by now: the numbers of all others have changed.
    write(
        write_run(tmp_path / "later" / RUN, [*sample(), record("aaa", conclusion="different")], ended=False),
        refresh_s=60,
        output=run / "index.html",
    )
    with page.expect_event("load"):
        page.evaluate("() => window.loadAgain()")
    page.wait_for_function("() => document.documentElement.dataset.ready")
    assert page.get_by_label("Find").input_value() == "digits-cnn"
    assert open_case(page).locator(".name").inner_text() == name
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    assert open_case(page).evaluate("(node) => node.getBoundingClientRect().top") == pytest.approx(top, abs=40)
    assert page.locator("#matrix tr", has_text="aaa").count() == 1


def test_a_page_that_loads_itself_again_can_be_told_to_wait(opened: Opened, tmp_path: Path) -> None:
    page = opened(write(write_run(tmp_path / RUN, sample(), ended=False), refresh_s=1)).page
    page.get_by_role("button", name="Pause").click()
    page.evaluate("window.same = true")
    page.wait_for_timeout(1_500)
    assert page.evaluate("window.same")
    page.get_by_role("button", name="Go on").click()
    page.wait_for_event("load")
    assert page.evaluate("window.same") is None


def test_no_column_of_a_wide_matrix_is_cut_on_paper(opened: Opened, page_of: PageOf) -> None:
    reader = shutil.which("pdftotext")
    if reader is None:
        pytest.skip("needs pdftotext, which is not installed: apt install poppler-utils")
    page = opened(page_of("wide")).page
    # Each case of the list tells its workload as well: the matrix alone is printed.
    page.add_style_tag(content="section:not(#verdicts), header, footer { display: none }")
    told = subprocess.run(
        [reader, "-", "-"], input=page.pdf(format="A4"), capture_output=True, check=True
    ).stdout.decode()
    assert {f"workload-{number}" for number in range(60)} <= set(told.split())
    assert page.locator("table.dense").count() == 1, "as before, once it is printed"
