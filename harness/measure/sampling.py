"""When enough rounds were timed: as soon as the interval is as narrow as was asked, or when the time is used up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from harness.errors import UsageError
from harness.measure.statistics import ENOUGH, paired_ratio
from harness.timings import Interval, Sampling

# Looking again after each round would stop at lucky moments; after a quarter more rounds each time it hardly matters.
GROWTH = 1.25


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How precise a speed-up is wanted, and how long timing a case may take.

    ``precision`` is the half-width of the 95 % interval over its median; ``budget_s`` are seconds of timed rounds. So
    many rounds as the training has epochs are timed at least, whatever they take.

    Raises:
        UsageError: the precision is not between 0 and 1, or the budget not a number of seconds >= 0.
    """

    precision: float = 0.02
    budget_s: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.precision < 1:
            raise UsageError(f"expected a precision between 0 and 100 % but got {self.precision:.4g}; say 2%")
        if not 0 <= self.budget_s < math.inf:
            raise UsageError(f"expected a budget of seconds >= 0 but got {self.budget_s}; say 20")


def half_width(interval: Interval) -> float:
    """Return half of an interval's width over its median: 0.02 says +-2 %."""
    return (interval.high - interval.low) / 2 / interval.median


def expected_half_width(serial: Sequence[float], parallel: Sequence[float]) -> float:
    """Return the half-width, over the median, that the spread of the paired ratios lets expect of their median.

    A median of n samples of a normal distribution spreads 1.2533 times as widely as their mean. Whoever stops where the
    interval itself is narrow stops where it is narrow by chance: it then covers in 88 of 100 trials instead of 95.
    """
    ratios = np.log(np.asarray(serial) / np.asarray(parallel))
    count = len(ratios)
    return 1.2533 * 1.96 * float(ratios.std(ddof=1)) / math.sqrt(count) * (1 + 1 / count) if count > 1 else math.inf


def looked_at(num_rounds: int, minimum: int) -> bool:
    """Return whether it is decided after so many timed rounds whether to go on."""
    look = max(minimum, 1)
    while look < num_rounds:
        look = math.ceil(look * GROWTH + 1e-9)
    return look == num_rounds


def decide(
    serial: Sequence[float], parallel: Sequence[float], plan: Plan, *, minimum: int, elapsed_s: float
) -> Sampling | None:
    """Return why no more rounds are timed, or None to go on.

    ``serial`` and ``parallel`` are seconds (or seconds a sample) of the timed rounds so far, pairs. The budget is used
    up when another round, taken to last as long as those before it, would end after it.

    Raises:
        UsageError: the samples are not pairs, or a time is not positive and finite.
    """
    num_rounds = len(serial)
    if num_rounds < minimum:
        return None
    ends = elapsed_s * (num_rounds + 1) / num_rounds > plan.budget_s
    if not ends and not looked_at(num_rounds, minimum):
        return None
    reached = max(half_width(paired_ratio(serial, parallel)), expected_half_width(serial, parallel))
    precise = reached <= plan.precision and num_rounds >= ENOUGH
    if not (precise or ends):
        return None
    return Sampling(
        num_rounds=num_rounds,
        precision=plan.precision,
        reached=reached,
        stopped="precise" if precise else "budget",
        num_needed=None if precise or reached == math.inf else num_needed(num_rounds, reached, plan.precision),
    )


def num_needed(num_rounds: int, reached: float, precision: float) -> int:
    """Return about how many rounds reach ``precision``: an interval narrows with the root of their number."""
    return max(ENOUGH, math.ceil(num_rounds * (reached / precision) ** 2))
