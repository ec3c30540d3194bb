"""Two runs held against each other: first where they ran, then what changed, then speed where like meets like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.measure.statistics import ENOUGH
from harness.record import Record
from harness.report import words
from harness.report.console import clean, table
from harness.report.summary import resolved_speedup, summarise
from harness.store import Run
from harness.timings import Interval

_MIN_EPOCHS = 2
_RESAMPLES = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """The speed of one case in run B in units of its speed in run A: above 1 is faster."""

    case: str
    epoch_a_s: float
    epoch_b_s: float
    ratio: Interval
    speedup_a: Interval | None
    speedup_b: Interval | None

    @property
    def slower(self) -> bool:
        """Whether the whole interval lies below 1."""
        return self.ratio.high < 1

    @property
    def faster(self) -> bool:
        """Whether the whole interval lies above 1."""
        return self.ratio.low > 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What differs between run A and run B.

    ``environment`` holds (name, A, B) and ``verdicts`` (case, A, B) where the two differ; ``refused`` holds
    (case, reason) where speed could not be compared.
    """

    run_a: str
    run_b: str
    environment: tuple[tuple[str, str, str], ...]
    verdicts: tuple[tuple[str, str, str], ...]
    speeds: tuple[Speed, ...]
    refused: tuple[tuple[str, str], ...]

    def lines(self) -> list[str]:
        """Return the comparison as lines of a terminal."""
        speeds = [("case", "A", "B", "B as fast as A", "", "speed-up in A", "speed-up in B"), *map(_row, self.speeds)]
        return [
            f"A: {clean(self.run_a)}",
            f"B: {clean(self.run_b)}",
            *_part("environment", [("", "A", "B"), *self.environment], "no difference"),
            *_part("verdicts", [("case", "A", "B"), *self.verdicts], "no change"),
            *_part("time per epoch", speeds, "nothing to compare"),
            *(_part("not compared", [("case", "reason"), *self.refused], "") if self.refused else []),
        ]


def compare(run_a: Run, run_b: Run) -> Comparison:
    """Return what changed from ``run_a`` to ``run_b``; only the same case of the same workload is timed against."""
    cases_a = {case.case: case for case in summarise(run_a).cases}
    cases_b = {case.case: case for case in summarise(run_b).cases}
    names = sorted(cases_a.keys() | cases_b.keys())
    verdicts = [(name, _verdict(cases_a.get(name)), _verdict(cases_b.get(name))) for name in names]
    speeds, refused = [], []
    for name in names:
        refusal = _refusal(cases_a.get(name), cases_b.get(name))
        if refusal is None:
            speeds.append(_speed(cases_a[name], cases_b[name]))
        elif refusal:
            refused.append((name, refusal))
    return Comparison(
        run_a=run_a.info.id,
        run_b=run_b.info.id,
        environment=tuple(_environment(run_a, run_b)),
        verdicts=tuple(item for item in verdicts if item[1] != item[2]),
        speeds=tuple(speeds),
        refused=tuple(refused),
    )


def ratio_of_medians(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Return median(a) / median(b) with its bootstrap 95 % interval; the two runs' epochs are not pairs.

    With too few samples for a bootstrap it is the whole range, as in ``harness.measure.statistics``.
    """
    middle = words.median(a) / words.median(b)
    if min(len(a), len(b)) < ENOUGH:
        return Interval(median=middle, low=min(a) / max(b), high=max(a) / min(b))
    draw = np.random.default_rng(0)
    medians = [np.median(draw.choice(np.asarray(side), (_RESAMPLES, len(side))), axis=1) for side in (a, b)]
    low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
    return Interval(median=middle, low=float(low), high=float(high))


def _environment(run_a: Run, run_b: Run) -> list[tuple[str, str, str]]:
    a, b = run_a.info.environment, run_b.info.environment
    found = [(name, str(a.get(name, words.NOTHING)), str(b.get(name, words.NOTHING))) for name in sorted(a | b)]
    return [item for item in found if item[1] != item[2]]


def _verdict(case: Record | None) -> str:
    return "not in this run" if case is None else words.VERDICT[case.verdict]


def _refusal(a: Record | None, b: Record | None) -> str | None:
    """Return why speed is not compared; empty where neither run timed the case."""
    if not any(case is not None and case.timing is not None for case in (a, b)):
        return ""
    if a is None or b is None:
        return f"only in {'A' if b is None else 'B'}"
    if a.workload_digest != b.workload_digest:
        return f"the workload is not the same: digest {a.workload_digest} in A, {b.workload_digest} in B"
    return _unfit(a, "A") or _unfit(b, "B")


def _unfit(case: Record, run: str) -> str | None:
    """Return why a case's times cannot be compared, or None."""
    if case.timing is None:
        return f"not timed in {run}"
    if words.struck(case) is not None:
        return f"{words.struck(case)} in {run}"
    epochs = case.timing.epoch_wall_s
    if len(epochs) < _MIN_EPOCHS:
        return f"{words.count(len(epochs), 'epoch')} in {run}: an interval needs {_MIN_EPOCHS}"
    if not all(math.isfinite(epoch) and epoch > 0 for epoch in epochs):
        return f"an epoch time in {run} is not a positive number"
    return None


def _speed(a: Record, b: Record) -> Speed:
    assert a.timing is not None
    assert b.timing is not None
    return Speed(
        case=a.case,
        epoch_a_s=words.epoch_s(a.timing),
        epoch_b_s=words.epoch_s(b.timing),
        ratio=ratio_of_medians(a.timing.epoch_wall_s, b.timing.epoch_wall_s),
        speedup_a=resolved_speedup(a),
        speedup_b=resolved_speedup(b),
    )


def _row(speed: Speed) -> tuple[str, ...]:
    return (
        speed.case,
        words.seconds(speed.epoch_a_s),
        words.seconds(speed.epoch_b_s),
        words.speedup(speed.ratio),
        "slower" if speed.slower else "faster" if speed.faster else "no change told apart",
        words.speedup(speed.speedup_a),
        words.speedup(speed.speedup_b),
    )


def _part(title: str, rows: Sequence[Sequence[str]], nothing: str) -> list[str]:
    body = table(rows) if len(rows) > 1 else [nothing]
    return ["", title, *("  " + line for line in body)]
