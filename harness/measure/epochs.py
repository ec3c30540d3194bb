"""From every rank's epochs to the time an epoch took, and to what must be said about such a series."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.errors import UsageError
from harness.measure.statistics import ENOUGH, reached_confidence
from harness.timings import Epoch

# Deviations from the median, in robust standard deviations, from which a sample counts as an outlier.
OUTLYING = 3.5
# A drift is told from a chance ordering at 1 %, and only if it moves the figure by 2 %.
DRIFT_Z, DRIFT_SHARE = 2.576, 0.02

Ranks = Sequence[Sequence[Epoch]]


def walls(ranks: Ranks) -> tuple[float, ...]:
    """Return the seconds of each epoch, from the first rank's start to the last rank's end.

    ``ranks`` holds a row per rank, an epoch per column, all by one monotonic clock.

    Raises:
        UsageError: no ranks, or ranks with different numbers of epochs.
    """
    return tuple(
        max(epoch.end_s for epoch in column) - min(epoch.start_s for epoch in column) for column in _columns(ranks)
    )


def durations(ranks: Ranks) -> tuple[tuple[float, ...], ...]:
    """Return each rank's own seconds per epoch, a row per rank."""
    return tuple(tuple(epoch.end_s - epoch.start_s for epoch in rank) for rank in ranks)


def skew(ranks: Ranks) -> tuple[float, ...]:
    """Return for each rank the median over epochs of how many seconds after the first rank it finished."""
    lags = [[epoch.end_s - min(e.end_s for e in column) for epoch in column] for column in _columns(ranks)]
    return tuple(float(lag) for lag in np.median(np.array(lags).reshape(-1, len(ranks)), axis=0))


def _columns(ranks: Ranks) -> list[tuple[Epoch, ...]]:
    counts = [len(rank) for rank in ranks]
    if not counts or len(set(counts)) > 1 or not counts[0]:
        raise UsageError(f"expected the same number of epochs, at least one, of every rank but got {counts}")
    return list(zip(*ranks, strict=True))


def series_warnings(name: str, samples: Sequence[float]) -> list[str]:
    """Return in words what weakens a series of times in seconds: too few, drifting, or with outliers."""
    told = []
    if len(samples) < ENOUGH:
        reached = reached_confidence(len(samples))
        told.append(
            f"{name}: {len(samples)} timed epoch{'s' * (len(samples) != 1)}: the interval is their whole range and "
            f"covers the median in {100 * reached:.0f} % of cases, not 95 %; time at least {ENOUGH}"
        )
        return told
    trend = drift(samples)
    if trend is not None:
        told.append(
            f"{name}: epochs get {abs(trend):.0%} {'slower' if trend > 0 else 'faster'} from first to last; "
            "the machine is not settled: warm up longer"
        )
    num_outliers = len(outliers(samples))
    if num_outliers:
        told.append(
            f"{name}: {num_outliers} of {len(samples)} epochs lie far from the median (kept in the figures); "
            "something else may be running"
        )
    return told


def drift(samples: Sequence[float]) -> float | None:
    """Return the relative change from first to last sample where there is a trend, else None.

    A trend by the Mann-Kendall test at 1 %; its size by the Theil-Sen slope.
    """
    values = np.asarray(samples, dtype=np.float64)
    first, last = np.triu_indices(len(values), k=1)
    if len(values) < ENOUGH:
        return None
    score = float(np.sign(values[last] - values[first]).sum())
    spread = math.sqrt(len(values) * (len(values) - 1) * (2 * len(values) + 5) / 18)
    slope = float(np.median((values[last] - values[first]) / (last - first)))
    change = slope * (len(values) - 1) / float(np.median(values))
    return change if (abs(score) - 1) / spread > DRIFT_Z and abs(change) > DRIFT_SHARE else None


def outliers(samples: Sequence[float]) -> tuple[int, ...]:
    """Return the positions of samples further than 3.5 robust standard deviations from the median.

    Robust deviation is 1.4826 times the median absolute deviation (Iglewicz & Hoaglin 1993), at least 1 % of the
    median, so that a very steady series has none over nothing.
    """
    values = np.asarray(samples, dtype=np.float64)
    centre = np.median(values)
    deviation = max(1.4826 * float(np.median(np.abs(values - centre))), 0.01 * abs(float(centre)))
    return tuple(int(i) for i in np.flatnonzero(np.abs(values - centre) > OUTLYING * deviation))
