"""The summary at the end of a pytest run, in the words of the page."""

from __future__ import annotations

from collections.abc import Sequence

from harness.record import Record
from harness.report import scaling, words
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
    scaled = scaling.lines(summary)
    lines += ["scaling", *("  " + clean(line) for line in scaled), ""] if scaled else []
    lines += _compared(summary.cases)
    reasons = not_verified(summary)
    if reasons:
        lines += ["not verified", *("  " + clean(words.not_verified(*reason)) for reason in reasons), ""]
    lines += [clean(remark) + "." for remark in remarks(summary)]
    return [*lines, clean(tally(summary)), clean(answer(summary))]


def _compared(cases: Sequence[Record]) -> list[str]:
    """Return what became of each case's time since an earlier run, where that was asked for."""
    found = [(case.case, case.timing.compared) for case in cases if case.timing and case.timing.compared]
    if not found:
        return []
    told = [f"  {clean(name)}: {clean(compared.words)}" for name, compared in found]
    return ["time against an earlier run", *told, ""]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as aligned lines."""
    cells = [[clean(cell) for cell in cells] for cells in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]


def clean(text: str) -> str:
    """Return ``text`` as one printable line: a name from elsewhere must not steer the terminal."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
