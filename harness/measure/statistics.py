"""Medians and their intervals from few, skewed, raw samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.timings import Interval

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

NUM_RESAMPLES = 9_999
# With fewer, the range of the samples covers the median less often than 95 %; below it no bootstrap can help.
ENOUGH = 6


def medians(rows: Floats) -> Floats:
    """Return the median of every row, shape (rows,)."""
    return np.asarray(np.median(rows, axis=1), dtype=np.float64)


def interval(
    samples: Sequence[float], *, statistic: Statistic = medians, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return ``statistic`` of ``samples`` with its percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

    Samples that resemble the one before them count for less: then blocks of neighbours are drawn (circular block
    bootstrap, Politis & Romano 1992). ``statistic`` maps rows of resamples, shape (resamples, samples), to one number
    each. The percentile interval is used because BCa's acceleration, a jackknife, is not consistent for medians. Fewer
    than 6 samples give their whole range, the widest interval there can be without assumptions; ``reached_confidence``
    says how little that covers.

    Raises:
        UsageError: no samples, or one that is not finite.
    """
    values = _checked(samples)
    centre = float(statistic(values[None])[0])
    if len(values) < ENOUGH:
        return Interval(median=centre, low=float(values.min()), high=float(values.max()))
    draws = _resamples(values, seed, block_length(values))
    estimates = np.concatenate([statistic(resamples) for resamples in draws])
    low, high = np.quantile(estimates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(median=centre, low=float(low), high=float(high))


def autocorrelation(samples: Sequence[float] | Floats) -> float:
    """Return how much each sample resembles the one before it: the lag-1 autocorrelation, 0 for a constant series."""
    values = np.asarray(samples, dtype=np.float64)
    around = values - values.mean()
    power = float(around @ around)
    return float(around[1:] @ around[:-1]) / power if power > 0 else 0.0


def autocorrelated(samples: Sequence[float] | Floats) -> float | None:
    """Return the lag-1 autocorrelation where it is positive beyond chance (1 %, one-sided), else None.

    Of independent samples it is about normal around -1 / n with variance 1 / n (Box & Jenkins 1970).
    """
    count = len(samples)
    if count < ENOUGH:
        return None
    found = autocorrelation(samples)
    return found if (found + 1 / count) * math.sqrt(count) > 2.326 else None


def block_length(samples: Sequence[float] | Floats) -> int:
    """Return how many neighbours a block bootstrap should draw together; 1 where samples do not resemble each other.

    The optimum for an autoregressive series of order 1 (Politis & White 2004, equation 9), at most a third of it.
    """
    found = autocorrelated(samples)
    if found is None:
        return 1
    rho, count = min(found, 0.95), len(samples)
    best = math.cbrt(6 * rho**2 / (1 - rho**2) ** 2 * count)
    return max(1, min(math.ceil(best), count // 3))


def reached_confidence(num_samples: int, confidence: float = 0.95) -> float:
    """Return how often ``interval`` covers a median: less than ``confidence`` for fewer than 6 samples, 0 for one.

    The range of n samples misses the median only where all lie on one side of it: 1 - 2 ** (1 - n).
    """
    return confidence if num_samples >= ENOUGH else min(confidence, 1 - 2.0 ** (1 - num_samples))


def paired_ratio(serial: Sequence[float], parallel: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Return the median of ``serial[i] / parallel[i]`` with its interval; above 1 the parallel run is faster.

    Both are seconds (or seconds a sample) of epochs that ran one after the other, so that a slow phase of the machine
    hits both and cancels.

    Raises:
        UsageError: the samples are not pairs, or a time is not positive and finite.
    """
    if len(serial) != len(parallel):
        raise UsageError(
            f"expected as many serial as parallel epochs but got {len(serial)} and {len(parallel)}; interleave them"
        )
    return interval(list(_times(serial) / _times(parallel)), confidence=confidence)


def efficiency(speedup: Interval, world_size: int) -> Interval:
    """Return the speed-up per rank."""
    return Interval(median=speedup.median / world_size, low=speedup.low / world_size, high=speedup.high / world_size)


def _checked(samples: Sequence[float]) -> Floats:
    values = np.asarray(samples, dtype=np.float64)
    if not values.size or not np.isfinite(values).all():
        raise UsageError(f"expected at least one finite sample but got {list(samples)}; measure again")
    return values


def _times(samples: Sequence[float]) -> Floats:
    values = _checked(samples)
    if values.min() <= 0:
        raise UsageError(f"expected times above zero but got {list(samples)}; measure longer epochs")
    return values


def _resamples(values: Floats, seed: int, block: int) -> Iterator[Floats]:
    """Yield all resamples in pieces of about a megabyte, shape (resamples, samples); of ``block`` neighbours each."""
    draw, count = np.random.default_rng(seed), len(values)
    height = max(1, 100_000 // count)
    for first in range(0, NUM_RESAMPLES, height):
        starts = draw.integers(0, count, size=(min(height, NUM_RESAMPLES - first), -(-count // block), 1))
        places = (starts + np.arange(block)) % count
        yield values[places.reshape(len(starts), -1)[:, :count]]
