"""The summary for a CI job's page, in the words of the page."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from harness.record import Record
from harness.report import scaling, words
from harness.report.summary import (
    COLUMNS,
    answer,
    by_workload,
    not_verified,
    question,
    remarks,
    row,
    summarise,
    tally,
)
from harness.store import Run


def markdown(run: Run) -> str:
    """Return a run as GitHub-flavoured Markdown: question, answer, a table a workload, what was not verified."""
    summary = summarise(run)
    parts = [f"## {escape(answer(summary))}", escape(f"{question(summary)} {tally(summary)}.")]
    remarked = remarks(summary)
    if remarked:
        parts.append("\n".join(f"> {escape(remark)}.  " for remark in remarked))
    for workload, cases in by_workload(summary.cases).items():
        parts += [f"### {escape(workload)}", table([COLUMNS, *map(_row, cases)])]
        reasons = [
            "  \n  ".join([f"- **{escape(case.case)}**: {escape(words.headline(case.reason))}", *_diagnosis(case)])
            for case in cases
            if case.verdict != "equivalent"
        ]
        parts += ["\n".join(reasons)] if reasons else []
    scaled = [f"- {escape(line)}" for line in scaling.lines(summary)]
    parts += ["### Scaling", "\n".join(scaled)] if scaled else []
    reasons = [f"- {escape(words.not_verified(*reason))}" for reason in not_verified(summary)]
    if reasons:
        parts += ["### Not verified, and why", "\n".join(reasons)]
    return "\n\n".join([*parts, f"<sub>{escape(words.SPEEDUP_NOTE)}</sub>"]) + "\n"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of Markdown cells as a table whose first row is its heading."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]])


def escape(text: str) -> str:
    """Return ``text`` as one line that Markdown shows as it is."""
    line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_|~\[\]#])", r"\\\1", line)


def _diagnosis(record: Record) -> list[str]:
    return [escape(told) for told in words.diagnosis(record)]


def _row(record: Record) -> list[str]:
    cells = [escape(cell) for cell in row(record)]
    cells[2] = cells[2] if record.verdict == "equivalent" else f"**{cells[2]}**"
    if words.struck(record) is not None:
        cells[4] = f"~~{cells[4]}~~"
    return cells
