"""A comparison in a terminal, and why it must not be read as a pass."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report import words
from harness.report.compared.comparison import ABSENT, Comparison, Refused, Speed
from harness.report.compared.sides import Side
from harness.report.console import clean, table

# More cases than these that not every side has are counted, or they would bury what changed.
_MOST_MISSING = 12


def failures(comparison: Comparison) -> list[str]:
    """Return why nobody may say that nothing got slower, a line each; none where that may be said."""
    if comparison.same:
        return ["nothing was compared: A and B are one and the same run; name two"]
    found = []
    for side in comparison.sides[1:]:
        judged = [speed for speed in comparison.speeds if speed.letter == side.letter and speed.outcome is not None]
        if not judged:
            found.append(f"nothing was compared: no case has a time in A and one in {side.letter} that are alike")
        found += [
            f"slower: {clean(speed.case)}{_where(comparison, side)}" for speed in judged if speed.outcome == "slower"
        ]
        found += [_missed(refused) for refused in comparison.refused if refused.lost and refused.letter == side.letter]
    return found


def _missed(refused: Refused) -> str:
    return f"timed in A and not compared: {clean(refused.case)}: {clean(refused.reason)}"


def _where(comparison: Comparison, side: Side) -> str:
    return f" in {side.letter}" if len(comparison.sides) > 2 else ""


def lines(comparison: Comparison) -> list[str]:
    """Return the comparison as lines: where the sides ran, verdicts, times, and what could not be compared."""
    letters = [side.letter for side in comparison.sides]
    facts = [(fact.name, *fact.values) for fact in comparison.environment]
    missing = [change.case for change in comparison.verdicts if ABSENT in change.verdicts]
    many = len(missing) > _MOST_MISSING
    verdicts = [
        (change.case, *change.verdicts) for change in comparison.verdicts if not (many and ABSENT in change.verdicts)
    ]
    nothing = "no verdict differs" if comparison.programs else "no change"
    return [
        *(f"{side.letter}: {clean(side.label)}" for side in comparison.sides),
        *(["A and B are one and the same run"] if comparison.same else []),
        *(f"{side.letter}: {clean(loss)}" for side in comparison.sides for loss in side.losses),
        *_part("environment", [("", *letters), *facts], "no difference"),
        *_part("verdicts", [("case", *letters), *verdicts], nothing),
        *([f"  {len(missing):,} cases are not on every side: {clean(words.listing(missing, 4))}"] if many else []),
        *(line for side in comparison.sides[1:] for line in _times(comparison, side)),
        "",
        clean(comparison.headline),
    ]


def _times(comparison: Comparison, side: Side) -> list[str]:
    """Return the times of one side against those of A."""
    letter, many = side.letter, len(comparison.sides) > 2
    every = [speed for speed in comparison.speeds if speed.letter == letter]
    judged = [speed for speed in every if speed.outcome is not None]
    unlike = [speed for speed in every if speed.outcome is None]
    refused = [refused for refused in comparison.refused if refused.letter == letter]
    head = ("case", "A", letter, f"time {letter} / A (99 %)", "", "speed-up in A (95 %)", f"in {letter} (95 %)")
    of = f", {letter} against A" if many else ""
    told = [speed for speed in judged if speed.outcome == "slower" or speed.relation == "programs"]
    return [
        *_part(f"time per epoch{of}", [head, *map(_row, judged)], "nothing to compare"),
        *(f"  {clean(speed.case)}: {clean(speed.words)}" for speed in told),
        *(_part(f"side by side{of}, not alike", [head, *map(_row, unlike)], "") if unlike else []),
        *(f"  {clean(why)}: this tells nothing of the code" for why in sorted({speed.why for speed in unlike})),
        *(["", f"not compared{of}", *_refused(refused)] if refused else []),
    ]


def _refused(refused: Sequence[Refused]) -> list[str]:
    """Return a line a reason, with the cases."""
    reasons: dict[str, list[str]] = {}
    for one in refused:
        reasons.setdefault(one.reason, []).append(one.case)
    return ["  " + clean(words.not_verified(reason, cases)) for reason, cases in reasons.items()]


def _row(speed: Speed) -> tuple[str, ...]:
    return (
        speed.case,
        words.seconds(speed.before_s),
        words.seconds(speed.now_s),
        words.speedup(speed.ratio),
        speed.outcome or "",
        words.speedup(speed.before_speedup),
        words.speedup(speed.now_speedup),
    )


def _part(title: str, rows: Sequence[Sequence[str]], nothing: str) -> list[str]:
    body = table(rows) if len(rows) > 1 else [nothing]
    return ["", title, *("  " + line for line in body)]
