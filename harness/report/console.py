"""The summary at the end of a pytest run, in the words of the page."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report import words
from harness.report.summary import (
    COLUMNS,
    answer,
    by_workload,
    not_verified,
    remarks,
    row,
    summarise,
    tally,
)
from harness.store import Run


def terminal(run: Run) -> list[str]:
    """Return the lines of a run's summary: a table a workload, what was not verified and why, and the answer last."""
    summary = summarise(run)
    lines: list[str] = []
    for workload, cases in by_workload(summary.cases).items():
        lines += [clean(workload), *("  " + line for line in table([COLUMNS, *map(row, cases)])), ""]
    wrong = [case for case in summary.cases if case.verdict in ("different", "inconclusive")]
    for case in wrong:
        lines += [f"{clean(case.case)}: {clean(words.headline(case.reason))}"]
        lines += ["  " + clean(told) for told in words.diagnosis(case)]
    lines += [""] if wrong else []
    reasons = not_verified(summary)
    if reasons:
        lines += ["not verified", *("  " + clean(words.not_verified(*reason)) for reason in reasons), ""]
    lines += [clean(remark) + "." for remark in remarks(summary)]
    return [*lines, clean(tally(summary)), clean(answer(summary))]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as aligned lines."""
    cells = [[clean(cell) for cell in cells] for cells in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]


def clean(text: str) -> str:
    """Return ``text`` as one printable line: a name from elsewhere must not steer the terminal."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
