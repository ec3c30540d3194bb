"""From every rank's epochs to the time an epoch took, and to what must be said about such a series."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.measure.statistics import ENOUGH, autocorrelated, reached_confidence
from harness.timings import Epoch

# Deviations from the median, in robust standard deviations, from which a sample counts as an outlier.
OUTLYING = 3.5
# As pyperf's check has it (psf/pyperf, _cli.py): a spread that large, an extreme that far off, a sample that short.
SPREAD, EXTREME, SHORT_S = 0.10, 0.50, 1e-3
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


def _columns(ranks: Ranks) -> list[tuple[Epoch, ...]]:
    counts = [len(rank) for rank in ranks]
    if not counts or len(set(counts)) > 1 or not counts[0]:
        raise UsageError(f"expected the same number of epochs, at least one, of every rank but got {counts}")
    return list(zip(*ranks, strict=True))


def series_warnings(name: str, samples: Sequence[float]) -> list[str]:
    """Return in words what weakens a series of times in seconds.

    Too few samples, too short ones, a large spread, outliers (which are counted and kept), a drift, or samples that
    resemble the one before them.
    """
    told = []
    if len(samples) < ENOUGH:
        reached = reached_confidence(len(samples))
        told.append(
            f"{name}: {len(samples)} timed epoch{'s' * (len(samples) != 1)}: the interval is their whole range and "
            f"covers the median in {100 * reached:.0f} % of cases, not 95 %; time at least {ENOUGH}"
        )
        return told
    values = np.asarray(samples, dtype=np.float64)
    if values.min() < SHORT_S:
        told.append(
            f"{name}: the shortest epoch takes {1e3 * values.min():.2g} ms, so that starting and stopping weigh on it; "
            "train more samples"
        )
    trend = drift(samples)
    if trend is not None:
        told.append(
            f"{name}: epochs get {abs(trend):.0%} {'slower' if trend > 0 else 'faster'} from first to last; "
            "the machine is not settled: warm up longer"
        )
    told += _scatter(name, values)
    likeness = autocorrelated(samples)
    if trend is None and likeness is not None:
        worth = len(samples) * (1 - likeness) / (1 + likeness)
        told.append(
            f"{name}: epochs resemble the one before them (autocorrelation {likeness:.2f}), so that {len(samples)} are "
            f"worth about {max(1, round(worth))}; time longer"
        )
    return told


def _scatter(name: str, values: NDArray[np.float64]) -> list[str]:
    """Return in words how far samples lie from each other."""
    num_outliers, middle = len(outliers(list(values))), float(np.median(values))
    spread = float(values.std(ddof=1) / values.mean())
    off = max(float(values.max()) / middle - 1, 1 - float(values.min()) / middle)
    told = []
    if num_outliers:
        told.append(
            f"{name}: {num_outliers} of {len(values)} epochs lie far from the median (kept in the figures); "
            "something else may be running"
        )
    if spread >= SPREAD or off >= EXTREME:
        told.append(
            f"{name}: epochs scatter by {spread:.0%} (standard deviation over mean), the furthest lies {off:.0%} off "
            "the median; quiet the machine or time longer epochs"
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
