"""The summary at the end of a pytest run, in the words of the page."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Iterator, Sequence

from harness.record import Conclusion, Record
from harness.report import words
from harness.report.headline import answer
from harness.report.sections import scaling, studies
from harness.report.summary import (
    COLUMNS,
    Summary,
    by_workload,
    counted,
    not_verified,
    remarks,
    row,
    summarise,
    tally,
    unrun,
)
from harness.store import Run

# More rows a workload than these say nothing that its tally does not; more troubles, reasons and times neither.
MAX_ROWS = 40
MAX_TOLD = 10
MAX_CELL = 48
_RIGHT = ("ranks", "closest call", "time per epoch", "efficiency")
_TIMES = ("time per epoch", "speed-up", "efficiency")
# What a narrow terminal does without, in this order; the page has it.
_DROPPED = ("efficiency", "closest call", "time per epoch")

# A word of a verdict, and in whose colours it is shown.
Paint = Callable[[str, Conclusion], str]


def _unpainted(text: str, _tone: Conclusion) -> str:
    return text


def terminal(run: Run, *, width: int | None = None, paint: Paint = _unpainted) -> list[str]:
    """Return the lines of a run's summary: tables, what is wrong and how to repeat it, what was not verified and why.

    The answer comes last. ``width`` is that of the terminal, where there is one.
    """
    summary = summarise(run)
    lines: list[str] = []
    for workload, cases in by_workload(summary.cases).items():
        lines += [clean(workload), *("  " + line for line in _cases(cases, width and width - 2, paint)), ""]
    lines += [line for found in _wrong(summary.cases, paint) for line in [*_wrapped(found, width), ""]]
    lines += _section("scaling", scaling.lines(summary), width)
    lines += _section("time against an earlier run", _compared(summary.cases), width)
    lines += _section("studies", studies.lines(run.claims), width)
    lines += _section("not verified", _unverified(summary), width)
    for remark in remarks(summary):
        lines += _wrapped([f"{clean(remark)}."], width)
    return [*lines, _painted_tally(summary, paint), *_wrapped([clean(answer(summary))], width)]


def _cases(cases: Sequence[Record], width: int | None, paint: Paint) -> Iterator[str]:
    """Yield the table of a workload, the gravest cases first; of a long one only what is not plainly equivalent."""
    cases = sorted(cases, key=_gravity)
    shown = cases if len(cases) <= MAX_ROWS else [case for case in cases if case.verdict != "equivalent"][:MAX_ROWS]
    names = [name for name in COLUMNS if name not in _TIMES or any(case.timing for case in shown)]
    rows = [[clean(cell) for cell in row(case)] for case in shown]
    for dropped in ("", *_DROPPED):
        names = [name for name in names if name != dropped]
        cells = [[_cut(cells[COLUMNS.index(name)]) for name in names] for cells in [list(COLUMNS), *rows]]
        lines = aligned(cells, [names.index(name) for name in _RIGHT if name in names])
        if width is None or max(len("  ".join(line).rstrip()) for line in lines) <= width:
            break
    verdict = names.index("verdict")
    if shown:
        yield "  ".join(lines[0]).rstrip()
    for case, line in zip(shown, lines[1:], strict=True):
        word = line[verdict].rstrip()
        line[verdict] = paint(word, words.tone(case)) + line[verdict][len(word) :]
        yield "  ".join(line).rstrip()
    if len(shown) < len(cases):
        left = len(cases) - len(shown)
        plain = sum(case.verdict == "equivalent" for case in cases)
        yield f"{left} more, {'all' if plain == left else f'{plain} of them'} equivalent: the page shows them"


_PLAIN = 4


def _gravity(case: Record) -> int:
    """Return a case's place: what differs or failed unexpectedly comes first, what is plainly equivalent last."""
    if case.failed:
        return 1
    if case.verdict == "different":
        return 3 if case.finding else 0
    return 2 if case.verdict == "inconclusive" else _PLAIN


def _wrong(cases: Sequence[Record], paint: Paint) -> Iterator[list[str]]:
    """Yield for each case that is not as it should be: its name, the reason, the likely cause, and what repeats it."""
    wrong = sorted((case for case in cases if _gravity(case) < _PLAIN), key=_gravity)
    for case in wrong[:MAX_TOLD]:
        lines = [f"{paint(words.verdict(case), words.tone(case))}: {clean(case.case)}"]
        lines += [f"  {clean(told)}" for told in (words.headline(case.reason), *words.diagnosis(case))]
        yield [*lines, f"  to repeat it: {clean(case.command)}"] if case.command else lines
    if len(wrong) > MAX_TOLD:
        names = clean(words.listing([case.case for case in wrong[MAX_TOLD:]]))
        yield [f"likewise on the page, with reasons and commands: {names}"]


def _compared(cases: Sequence[Record]) -> list[str]:
    """Return what became of each case's time since an earlier run, where that was asked for; of many, what changed."""
    found = [(case.case, case.timing.compared) for case in cases if case.timing and case.timing.compared]
    told = [f"{name}: {compared.words}" for name, compared in found]
    if len(told) <= MAX_ROWS:
        return told
    changed = [f"{name}: {compared.words}" for name, compared in found if compared.outcome != "pass"]
    return [*changed[:MAX_ROWS], f"{len(told) - len(changed[:MAX_ROWS])} more on the page"]


def _unverified(summary: Summary) -> list[str]:
    """Return why cases were not verified, a line a reason."""
    reasons = not_verified(summary)
    told = [line for line in [unrun(summary)] if line]
    told += [words.not_verified(*reason) for reason in reasons[:MAX_TOLD]]
    left = sum(len(names) for _, names in reasons[MAX_TOLD:])
    return [*told, f"{words.count(left, 'case')} for other reasons, which the page gives"] if left else told


def _section(title: str, lines: Sequence[str], width: int | None) -> list[str]:
    return [title, *_wrapped([f"  {clean(line)}" for line in lines], width), ""] if lines else []


def _painted_tally(summary: Summary, paint: Paint) -> str:
    told = clean(tally(summary))
    for tone, word, number in counted(summary):
        told = told.replace(f"{number:,} {word}", f"{number:,} {paint(word, tone)}")
    return told


def _wrapped(lines: Sequence[str], width: int | None) -> list[str]:
    """Return lines broken between words; a command stays in one piece, which a reader copies."""
    if width is None:
        return list(lines)
    found: list[str] = []
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        whole = line.startswith("  to repeat it: ") or len(line) <= width
        broken = textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        found += [line] if whole else broken
    return found


def _cut(cell: str) -> str:
    return cell if len(cell) <= MAX_CELL else f"{cell[: MAX_CELL - 4]} ..."


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as aligned lines."""
    return ["  ".join(cells).rstrip() for cells in aligned([[clean(cell) for cell in cells] for cells in rows])]


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[list[str]]:
    """Return rows of cells, each cell as wide as its column; columns ``right`` end at the same place."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        [cell.rjust(width) if place in right else cell.ljust(width) for place, (cell, width) in enumerate(cells)]
        for cells in (zip(line, widths, strict=True) for line in rows)
    ]


def clean(text: str) -> str:
    """Return ``text`` as one printable line: a name from elsewhere must not steer the terminal."""
    return words.visible(" ".join(text.split()))
