"""Whether something got slower from one run to another: a verdict that does not mistake the machine's mood for it.

Two runs are not interleaved, so three things move a time besides the work, and each has its remedy here:

    the machine's mood       a yardstick (fixed work, ``harness.measure.yardstick``) is timed beside every step; what
                             is compared is the time in units of the yardstick beside it
    what a start draws       memory layout, placement: every fresh start moves all its steps alike, so starts are the
                             samples, not steps; with one start a run, their spread comes from earlier runs and from
                             A/A pairs, and as long as these are too few, part of it is assumed
    noise                    the median over the steps of a start, and a trimmed mean over starts: a fifth is left out
                             at each end, and the interval is that of Yuen (Biometrika 61, 1974) with pooled variance

The figure is the ratio of times, now over before, with Student's 99 % interval of the logarithms; its lower end alone
is passed by chance once in 200 times. Outcomes, for a floor of for example 5 %:

    slower          the interval lies above 1, and the ratio above 1.05
    faster          the interval lies below 1, and the ratio below 1 / 1.05
    pass            the interval ends below 1.05: no slower than that
    inconclusive    none of these: the noise hides it
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import MissingRequirementError, UsageError
from harness.measure.statistics import ENOUGH, interval
from harness.timings import LONGEST_S, Interval, Outcome

CONFIDENCE = 0.99
# Relative spread from start to start that is assumed where too little was seen: with a yardstick, and without one.
ASSUMED, ASSUMED_BARE = 0.03, 0.05
# With fewer degrees of freedom than these, the assumed spread fills up.
LEAST_FREEDOM = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """The seconds of each timed step (or epoch) of one fresh start, and of the yardstick beside each."""

    step_s: Sequence[float]
    yardstick_s: Sequence[float] = ()

    def __post_init__(self) -> None:
        times = [*self.step_s, *self.yardstick_s]
        if not self.step_s or not all(math.isfinite(time) and time > 0 for time in times):
            raise UsageError(f"expected times above zero, at least one, but got {times}; measure again")
        if self.yardstick_s and len(self.yardstick_s) != len(self.step_s):
            raise UsageError(
                f"expected a yardstick beside each step but got {len(self.yardstick_s)} beside {len(self.step_s)}; "
                "time both in every round"
            )

    def logs(self, *, bare: bool) -> list[float]:
        """Return the logarithm of each step's time, in units of its yardstick unless ``bare``."""
        units = [1.0] * len(self.step_s) if bare else self.yardstick_s
        return [math.log(step / unit) for step, unit in zip(self.step_s, units, strict=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What came out: the ratio of times, now over before, and how far it rests on what was seen.

    ``bare`` says that there was no yardstick, ``freedom`` how many degrees of freedom the spread between starts was
    seen with, what is assumed left out. ``mood`` is the yardstick's own ratio, now over before.
    """

    outcome: Outcome
    ratio: Interval
    bare: bool
    freedom: float
    mood: float | None


def judge(
    before: Sequence[Start],
    now: Sequence[Start],
    *,
    floor: float,
    earlier: Sequence[Start] = (),
    pairs: Sequence[float] = (),
    in_order: bool = False,
) -> Judged:
    """Return whether the steps of ``now`` take longer than those of ``before``; see the top of this file.

    ``floor`` is the relative effect below which nobody cares. ``earlier`` are starts of other runs of the same thing,
    each of a run of its own, and ``pairs`` ratios of two equal runs timed in turns (A/A): both tell how starts differ.
    ``in_order`` says that ``before``, and ``earlier``, are runs one after the other. Their spread is then that from
    one to the next, so that a creep from run to run does not hide itself.

    Raises:
        UsageError: no start on one side, or a floor below zero.
        MissingRequirementError: scipy is not installed.
    """
    if not before or not now or not floor >= 0:
        raise UsageError(
            f"expected starts on both sides and a floor >= 0 but got {len(before)} and {len(now)} starts, "
            f"floor {floor}; measure both"
        )
    bare = not all(start.yardstick_s for start in (*before, *now))
    sides = [_group([_centre(start, bare=bare) for start in side], in_order=in_order) for side in (before, now)]
    others = _group([_centre(start, bare=bare) for start in earlier if bare or start.yardstick_s], in_order=in_order)
    squares = sum(group.squares for group in (*sides, others))
    freedom = sum(group.freedom for group in (*sides, others))
    if not bare:  # an A/A pair is timed in one mood and says nothing of how two moods differ
        squares += sum(math.log(pair) ** 2 / 2 for pair in pairs if is_time(pair))
        freedom += sum(map(is_time, pairs))
    assumed = max(0, LEAST_FREEDOM - freedom)
    squares += assumed * (ASSUMED_BARE if bare else ASSUMED) ** 2
    between = squares / (freedom + assumed)
    share = sum(1 / side.num for side in sides)
    # Where spread was seen, it holds the noise of steps; what is assumed does not.
    terms = [(between * share, freedom + assumed)]
    if assumed or min(len(before), len(now)) == 1:
        within = [_within(side, bare=bare) for side in (before, now)]
        noise = sum(variance for variance, _ in within)
        terms = [*terms, *within] if assumed else [(max(between * share, noise), freedom)]
    error, reliable = _joined(terms)
    reach = _quantile(0.5 + CONFIDENCE / 2, reliable) * error
    change = sides[1].centre - sides[0].centre
    ratio = Interval(median=math.exp(change), low=math.exp(change - reach), high=math.exp(change + reach))
    return Judged(
        outcome=outcome(ratio, floor),
        ratio=ratio,
        bare=bare,
        freedom=freedom,
        mood=None if bare else _mood(before, now),
    )


def outcome(ratio: Interval, floor: float) -> Outcome:
    """Return what the interval of a ratio of times, now over before, says; see the top of this file."""
    if ratio.low > 1 and ratio.median > 1 + floor:
        return "slower"
    if ratio.high < 1 and ratio.median < 1 / (1 + floor):
        return "faster"
    return "pass" if ratio.high <= 1 + floor else "inconclusive"


def _mood(before: Sequence[Start], now: Sequence[Start]) -> float:
    first, second = (float(np.median([time for start in side for time in start.yardstick_s])) for side in (before, now))
    return second / first


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """A trimmed mean, how many values it is of, and the winsorised sum of squares with its degrees of freedom."""

    centre: float
    num: int
    squares: float
    freedom: float


def _group(values: Sequence[float], *, in_order: bool) -> _Group:
    ordered, cut = np.sort(np.asarray(values, dtype=np.float64)), len(values) // 5
    kept = ordered[cut : len(ordered) - cut]
    num = len(kept)
    if not num:
        return _Group(centre=math.nan, num=0, squares=0.0, freedom=0)
    held = np.clip(values, kept[0], kept[-1])
    squares, freedom = float(((held - held.mean()) ** 2).sum()), float(num - 1)
    if in_order and num > 1:
        # Half the squares of successive differences expect the same, and know it less well (von Neumann 1941).
        known = 2 * (num - 1) ** 2 / (3 * num - 4)
        squares, freedom = float((np.diff(held) ** 2).sum()) / 2 * known / freedom, known
    return _Group(centre=float(kept.mean()), num=num, squares=squares, freedom=freedom)


def _centre(start: Start, *, bare: bool) -> float:
    return _median(start, bare=bare)[0]


def _within(side: Sequence[Start], *, bare: bool) -> tuple[float, int]:
    """Return the variance of a side's mean that the noise of steps explains, and its degrees of freedom."""
    found = [_median(start, bare=bare)[1] for start in side]
    freedom = sum(len(start.step_s) - 1 for start in side)
    return float(np.mean(found)) / len(side), max(1, freedom)


def _median(start: Start, *, bare: bool) -> tuple[float, float]:
    """Return a start's logarithm and its variance: of ratios round by round, or of medians where that is steadier.

    Round by round a disturbance that hits step and yardstick alike cancels; where they are apart in time it does not,
    and the noise of single yardsticks is all that is added.
    """
    rounds = _estimate(tuple(start.logs(bare=bare)))
    if bare or len(start.step_s) < ENOUGH:
        return rounds
    steps, units = (_estimate(tuple(map(math.log, times))) for times in (start.step_s, start.yardstick_s))
    apart = (steps[0] - units[0], steps[1] + units[1])
    return min(rounds, apart, key=lambda found: found[1])


# The same start is asked for its median and for its variance, and by each comparison that it is part of.
@functools.lru_cache(maxsize=4096)
def _estimate(logs: tuple[float, ...]) -> tuple[float, float]:
    """Return the median and its variance, from the bootstrap interval."""
    found = interval(logs)
    return found.median, ((found.high - found.low) / (2 * 1.96)) ** 2


def _joined(terms: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the root of a sum of variances and its degrees of freedom (Satterthwaite 1946)."""
    total = sum(variance for variance, _ in terms)
    lost = sum(variance**2 / freedom for variance, freedom in terms)
    return math.sqrt(total), total**2 / lost if lost > 0 else float(terms[0][1])


def is_time(value: float) -> bool:
    """Return whether ``value`` can be a time in seconds: above zero and no more than decades."""
    return 0 < value < LONGEST_S


def _quantile(level: float, freedom: float) -> float:
    try:
        from scipy import special
    except ImportError as error:
        raise MissingRequirementError(
            "comparing times needs scipy, which is not installed; install the extra 'report'"
        ) from error
    return float(special.stdtrit(freedom, level))
