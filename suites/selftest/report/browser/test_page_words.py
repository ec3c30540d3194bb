"""The script reads figures as the rest of the report does, and draws what is none without a word in the console."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kinds_of_runs import spoilt

from fixtures.chromium import Opened
from fixtures.sample_records import record, timing
from harness.report import words
from harness.report.html import page
from harness.timings import Interval

pytest_plugins = ["opening"]

# Between two figures, at the ends of units and of powers of ten.
SMALL = (0.0, 1.0, 1.125, 1.005, 2.5, 9.995, 12.5, 0.1235, 0.0005, 1e-3, 3.25e-8, 99.995, 100.0, 119.99, 120.0, 150.0)
LARGE = (150.5, 999.5, 1234.5, 9940.0, 12345.0, 999_999.0, 1e6, 1_125_000.0, 1_234_567.0, 2.0**40, 1.5e300)
NEGATIVE = tuple(-value for value in (*SMALL[1:], *LARGE[:6]))
VALUES = [*SMALL, *LARGE, *NEGATIVE, sys.float_info.max]


def _speedup(value: float) -> str:
    return words.speedup(Interval(low=value / 3, median=value, high=value * 7))


SAID: dict[str, Callable[[float], str]] = {
    "number(value)": words.number,
    "number(value, 2)": lambda value: words.number(value, 2),
    "number(value, 6)": lambda value: words.number(value, 6),
    "seconds(value)": words.seconds,
    "times(value)": words.factor,
    "percent(value)": words.percent,
    "percent(value, 1)": lambda value: words.percent(value, 1),
    "bytes(value)": words.bytes_size,
    "speedup([value / 3, value, value * 7])": _speedup,
}


@pytest.fixture
def said(opened: Opened, page_of: Callable[[str], Path]) -> Callable[[str], list[str]]:
    """Evaluate an expression of the page's script for every value."""
    visit = opened(page_of("one"))
    script = (Path(page.__file__).parent / "script" / "charts.js").read_text(encoding="utf-8")

    def read(expression: str) -> list[str]:
        every = f"(values) => {{ {script}\n return values.map((value) => {expression}); }}"
        found: list[str] = visit.page.evaluate(every, VALUES)
        return found

    return read


def test_every_figure_reads_as_in_the_rest_of_the_report(said: Callable[[str], list[str]]) -> None:
    wrong = [
        f"{expression} of {value!r}: {found} in the page, {told(value)} elsewhere"
        for expression, told in SAID.items()
        for value, found in zip(VALUES, said(expression), strict=True)
        # The largest number stands for infinity, in which no other unit is any more.
        if found != told(value) and abs(value) < 1e300
    ]
    assert not wrong, "\n".join(wrong)
    assert said("number(value)")[-1] == "infinite"


def test_what_is_not_finite_is_said_to_be_so(said: Callable[[str], list[str]]) -> None:
    for name in ("number", "seconds", "times", "percent"):
        assert set(said(f"{name}(null)")) == {"not finite"}


def test_every_number_of_a_record_is_spoilt() -> None:
    """The negative control of the pages of spoilt runs."""
    found = spoilt(record(timing=timing(1.5)), 7.5)
    assert found.timing.speedup.median == found.margin == found.evidence.factor == found.evidence.curve[0][0] == 7.5
    assert found.world_size == 2


def test_a_case_of_spoilt_numbers_never_opens_empty(opened: Opened, page_of: Callable[[str], Path]) -> None:
    visit = opened(page_of("spoilt"))
    # Every figure that there is, of each kind of number that is none.
    cases = visit.page.evaluate(
        """() => [...document.querySelectorAll("#cases details.case")].map((node) => [node.id, node.innerText])"""
    )
    for identity, told in cases:
        if "every-figure" in told or "digits-cnn/tf-mirrored" in told:
            visit.page.evaluate("(identity) => { document.getElementById(identity).open = true; }", identity)
    visit.settle()
    assert visit.page.locator("details.case[open] figcaption", has_text="From ideal to measured").count() == 3
    assert not visit.page.locator("details.case[open]", has_text="could not be drawn").count()
