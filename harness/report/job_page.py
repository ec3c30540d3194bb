"""The summary for a CI job's page or a comment on a pull request, in the words of the page and no longer than fits."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from harness.errors import UsageError
from harness.record import GRAVITY, Record
from harness.report import words
from harness.report.console import clean
from harness.report.headline import answer, question
from harness.report.sections import scaling
from harness.report.summary import COLUMNS, Summary, by_workload, not_verified, remarks, row, summarise, tally, unrun
from harness.store import Run

# What GitHub takes as $GITHUB_STEP_SUMMARY, in bytes. A comment may have 65,536 characters, which are no more bytes.
STEP_SUMMARY = 1 << 20
SMALLEST = 8_000
# Headings and the lines that tell what is left out, in bytes.
_HEADINGS = 400
# No reason, name or sentence is longer than this, in characters.
_LONGEST = 400
# What would make a link, a mention or a reference of a word is taken apart by a space without width.
_APART = "\u200b"
_ACTING = re.compile(
    r"(?<=@)|(?<=#)(?=\d)|(?<=:)(?=//)|(?<=www)(?=\.)|(?<=GH)(?=-\d)|(?<=:)(?=[\w+-]+:)", re.IGNORECASE
)


def markdown(run: Run, limit: int = STEP_SUMMARY) -> str:
    """Return a run as GitHub-flavoured Markdown of at most ``limit`` bytes.

    Question, answer, tally and what was not verified come first, then every case that is not equivalent with its
    reason, and a table a workload. Where that is too long, tables are cut from the end, cases that are not equivalent
    last, and a line says how many are left out.

    Raises:
        UsageError: less than that fits into ``limit``.
    """
    if limit < SMALLEST:
        raise UsageError(f"expected a limit of {SMALLEST:,} bytes or more but got {limit:,}")
    summary = summarise(run)
    note = f"<sub>{escape(words.SPEEDUP_NOTE)}</sub>"
    first = [f"## {escape(answer(summary))}", escape(f"{question(summary)} {tally(summary)}.")]
    remarked, left = _fitting(
        [f"> {escape(remark)}.  " for remark in remarks(summary)], limit - _size([*first, note]) - _HEADINGS, share=0.5
    )
    first += ["\n".join(remarked)] if remarked else []
    unseen, left = _unseen(summary, left)
    unequal, left = _unequal(summary, left)
    scaled, left = _scaled(summary, left)
    return "\n\n".join([*first, *unseen, *unequal, *_tables(summary, left), *scaled, note]) + "\n"


def escape(text: str) -> str:
    """Return ``text`` as one line that Markdown shows as it is, and that links and mentions nothing."""
    line = clean(text)
    line = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
    line = re.sub(r"([\\`*_|~\[\]#$])", r"\\\1", html.escape(_ACTING.sub(_APART, line), quote=False))
    return re.sub(r"^([-+](?=[ -])|=(?==)|\d+(?=[.)]( |$)))", _plain_start, line)


def _plain_start(found: re.Match[str]) -> str:
    """Return the start of a line that would begin a list or underline the one before it, so that it does not."""
    return f"\\{found[0]}" if not found[0].isdigit() else f"{found[0]}{_APART}"


def _unseen(summary: Summary, left: int) -> tuple[list[str], int]:
    reasons = not_verified(summary)
    lines = [f"- {escape(words.not_verified(*reason))}" for reason in reasons]
    first = [f"- {told}" for told in [unrun(summary)] if told]
    kept, left = _fitting(lines, left - _size(first), share=0.5)
    if len(kept) < len(lines):
        others = sum(len(names) for _reason, names in reasons[len(kept) :])
        told = f"{words.count(len(lines) - len(kept), 'reason')} more ({words.count(others, 'case')})"
        kept.append(f"- {told}, left out here")
    kept = [*first, *kept]
    return (["### Not verified, and why", "\n".join(kept)] if kept else []), left


def _unequal(summary: Summary, left: int) -> tuple[list[str], int]:
    cases = [case for cases in by_workload(summary.cases).values() for case in cases if case.verdict != "equivalent"]
    cases.sort(key=_gravity)
    lines = ["  \n  ".join([_reason(case), *map(escape, words.diagnosis(case))]) for case in cases]
    kept, left = _fitting(lines, left, share=0.5)
    if len(kept) < len(lines):
        kept.append(f"- {words.count(len(lines) - len(kept), 'case')} more, left out here")
    return (["### Not equivalent, and why", "\n".join(kept)] if kept else []), left


def _reason(case: Record) -> str:
    return f"- **{escape(case.case)}**: {escape(words.headline(case.reason))}"


def _scaled(summary: Summary, left: int) -> tuple[list[str], int]:
    kept, left = _fitting([f"- {escape(line)}" for line in scaling.lines(summary)], left, share=0.3)
    return (["### Scaling", "\n".join(kept)] if kept else []), left


def _tables(summary: Summary, left: int) -> list[str]:
    """Return a table a workload, with as many cases as fit; those that are not equivalent are kept longest."""
    groups = by_workload(summary.cases)
    lines = {id(case): _table_lines([_row(case)])[0] for cases in groups.values() for case in cases}
    begun: set[str] = set()
    kept: set[int] = set()
    ordered = sorted(
        ((name, case) for name, cases in groups.items() for case in cases), key=lambda item: _gravity(item[1])
    )
    for name, case in ordered:
        head = [] if name in begun else [f"### {escape(name)}", *_table_lines([COLUMNS])]
        left -= _size([*head, lines[id(case)]])
        if left < 0:
            break
        begun.add(name)
        kept.add(id(case))
    shown: list[str] = []
    for name in (name for name in groups if name in begun):
        cases = sorted((case for case in groups[name] if id(case) in kept), key=_gravity)
        shown += [f"### {escape(name)}", "\n".join([*_table_lines([COLUMNS]), *(lines[id(case)] for case in cases)])]
    if len(kept) < len(ordered):
        num_left = len(ordered) - len(kept)
        verb = "is" if num_left == 1 else "are"
        shown.append(f"**{words.count(num_left, 'case')} of {len(ordered):,} {verb} left out here**: the page has all.")
    return shown


def _table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return [lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]]


def _gravity(case: Record) -> int:
    return -GRAVITY.index(words.tone(case))


def _row(record: Record) -> list[str]:
    cells = [escape(cell) for cell in row(record)]
    cells[2] = cells[2] if record.verdict == "equivalent" else f"**{cells[2]}**"
    if words.struck(record) is not None:
        cells[4] = f"~~{cells[4]}~~"
    return cells


def _fitting(lines: Sequence[str], left: int, *, share: float) -> tuple[list[str], int]:
    """Return the first lines that fit into a share of the bytes that are left, and how many are left after them."""
    kept: list[str] = []
    budget = int(left * share)
    for line in lines:
        budget -= _size([line])
        if budget < 0:
            break
        kept.append(line)
    return kept, left - _size(kept)


def _size(lines: Iterable[str]) -> int:
    """Return how many bytes lines take, with an empty line after each."""
    return sum(len(line.encode()) + 2 for line in lines)
