"""What the oracle is known to catch, measured before: how often it cries wolf, and how often it sees a bug."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from harness.report import words
from harness.spec import Value

# Written by suites/performance/oracle_figures.py.
FILE = Path(__file__).with_name("oracle.json")
NOTE = "Measured before this run, with this version's oracle, on CPU: none of it is of this run."


class Curve(Value, frozen=True, kw_only=True):
    """The shares of clean and of wrong runs beyond each threshold, in one precision; ``factor`` is K, in use."""

    precision: str
    factor: float
    num_clean: int
    num_bugs: int
    area: float
    thresholds: tuple[float, ...]
    clean: tuple[float, ...]
    bugs: tuple[float, ...]


class Roc(Value, frozen=True, kw_only=True):
    """A curve as detection over false alarms: shares from 0 to 1, a pair a threshold, the strictest first.

    ``at`` is the place in both of the threshold K in use.
    """

    precision: str
    factor: float
    area: float
    false_alarms: tuple[float, ...]
    detected: tuple[float, ...]
    thresholds: tuple[float | None, ...]
    at: int
    told: str


class Detection(Value, frozen=True, kw_only=True):
    """How many pairs of injected bug and strategy were caught, and how often the cause named was the right one.

    ``num_judged`` are those of which a cause can be told: no rank died.
    """

    num_pairs: int
    num_caught: int
    num_faults: int
    num_strategies: int
    num_judged: int
    num_causes: int
    num_misled: int


class Known(Value, frozen=True, kw_only=True):
    """All of it; ``held_out`` is on other trainings than those on which the rules of diagnosis were written."""

    num_clean: int
    num_alarms: int
    curves: tuple[Curve, ...]
    detection: Detection | None = None
    held_out: Detection | None = None


def read() -> Known | None:
    """Return what is known, or None in an installation without it."""
    return msgspec.json.decode(FILE.read_bytes(), type=Known) if FILE.exists() else None


def sentences(known: Known) -> list[str]:
    """Return what is known in words."""
    sound = words.count(known.num_clean, "sound case")
    told = [f"Of {sound}, in all precisions, {known.num_alarms:,} were called different."]
    for found, where in ((known.detection, ""), (known.held_out, "On other trainings than those it was made with: ")):
        if found is not None:
            told.append(
                f"{where}{found.num_caught:,} of {words.count(found.num_pairs, 'pair')} of an injected bug and a "
                f"strategy were caught ({words.count(found.num_faults, 'bug')}, "
                f"{words.count(found.num_strategies, 'strategy', 'strategies')}). Of the {found.num_judged:,} in which "
                f"no rank died, the cause was named rightly in {found.num_causes:,}; in "
                f"{found.num_misled or 'none'} a wrong one was called certain."
            )
    return [*told, *_of_charts(known)]


def _of_charts(known: Known) -> list[str]:
    """Return what the curves are of, which is not what the sentences above count."""
    if not known.curves:
        return []
    num_clean = sum(curve.num_clean for curve in known.curves)
    more = num_clean - known.num_clean
    sound = f"these sound cases and {more:,} more" if more else "these sound cases"
    num_bugs = words.listing([f"{number:,}" for number in sorted({curve.num_bugs for curve in known.curves})], 9, "or")
    told = (
        f"The charts show {sound}, {num_clean:,} in all, each in one precision, beside another set of wrong runs, "
        f"{num_bugs} in each precision. K is the threshold in use. What lies beyond it is not called different yet: in "
        "lower precision than float64 that takes float64 to confirm it, and the charts show what was before that."
    )
    return [told]


def roc(curve: Curve) -> Roc:
    """Return what each threshold would detect for what it would cry wolf; nothing at all at its ends, and everything.

    The thresholds at the ends, infinity and less than zero, are None.
    """
    falling = sorted(zip(curve.thresholds, curve.clean, curve.bugs, strict=True), reverse=True)
    points: list[tuple[float | None, float, float]] = [(None, 0.0, 0.0), *falling, (None, 1.0, 1.0)]
    in_use = min(falling, key=lambda point: abs(math.log(point[0] / curve.factor)))
    at = points.index(in_use)
    return Roc(
        precision=curve.precision,
        factor=curve.factor,
        area=curve.area,
        false_alarms=tuple(clean for _, clean, _ in points),
        detected=tuple(bugs for _, _, bugs in points),
        thresholds=tuple(limit for limit, _, _ in points),
        at=at,
        told=(
            f"In {curve.precision}, at K = {curve.factor:g}: {words.percent(in_use[2], 1)} of "
            f"{words.count(curve.num_bugs, 'wrong run')} detected, {words.percent(in_use[1], 2)} of "
            f"{words.count(curve.num_clean, 'clean run')} beyond it."
        ),
    )
