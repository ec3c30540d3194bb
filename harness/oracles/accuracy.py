"""Held-out accuracy of a serial and a parallel run, with an interval for their difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from harness.errors import UsageError
from harness.record import Accuracy, Conclusion, Verdict
from harness.timings import Interval

# How far the mean loss of a first epoch may be from serial training, relative.
FIRST_EPOCH, FIRST_EPOCH_OWN_MATHS = 1e-3, 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyComparison:
    """Two accuracies on the same held-out samples.

    ``difference`` is parallel - serial with its interval. ``num_only_serial`` counts the samples that only the serial
    run gets right, ``num_only_parallel`` those that only the parallel run does. ``p_value`` is McNemar's exact one for
    "both err equally often".
    """

    serial: float
    parallel: float
    num_held_out: int
    difference: Interval
    num_only_serial: int
    num_only_parallel: int
    p_value: float


def compare_accuracy(
    serial_correct: ArrayLike, parallel_correct: ArrayLike, *, confidence: float = 0.95
) -> AccuracyComparison:
    """Compare sample by sample: two arrays of booleans, shape (held-out samples,).

    The interval is Newcombe's score interval for paired proportions (Statistics in Medicine 17, 1998, 2635-2650,
    method 10), which keeps its coverage at accuracies near 1 and for small samples, where the normal one fails.

    Raises:
        UsageError: the arrays are empty or of different shapes.
    """
    serial, parallel = np.asarray(serial_correct, dtype=bool), np.asarray(parallel_correct, dtype=bool)
    if serial.ndim != 1 or serial.shape != parallel.shape or not serial.size:
        raise UsageError(
            f"expected two arrays over the same held-out samples but got shapes {serial.shape} and {parallel.shape}; "
            "predict the same samples with both runs"
        )
    both, only_parallel = int((serial & parallel).sum()), int((parallel & ~serial).sum())
    only_serial = int((serial & ~parallel).sum())
    neither = serial.size - both - only_serial - only_parallel
    correlation = _correlation(both, only_parallel, only_serial, neither)
    return AccuracyComparison(
        serial=float(serial.mean()),
        parallel=float(parallel.mean()),
        num_held_out=serial.size,
        difference=_difference(
            float(parallel.mean()), float(serial.mean()), serial.size, correlation, _quantile(confidence)
        ),
        num_only_serial=only_serial,
        num_only_parallel=only_parallel,
        p_value=mcnemar(only_serial, only_parallel),
    )


def accuracy_difference(serial: float, parallel: float, num_held_out: int, *, confidence: float = 0.95) -> Interval:
    """Return parallel - serial with its interval when only the two accuracies are known.

    Treats the samples as unpaired (Newcombe, Statistics in Medicine 17, 1998, 873-890, method 10): wider than
    ``compare_accuracy`` where the two runs err on the same samples, as equal runs do.

    Raises:
        UsageError: no held-out samples, or an accuracy outside [0, 1].
    """
    if num_held_out < 1 or not (0 <= serial <= 1 and 0 <= parallel <= 1):
        raise UsageError(
            f"expected accuracies in [0, 1] on at least one sample but got {serial} and {parallel} on {num_held_out}"
        )
    return _difference(parallel, serial, num_held_out, 0.0, _quantile(confidence))


def judge_accuracy(difference: Interval, *, margin: float = 0.01) -> Conclusion:
    """Conclude from an interval of the difference: equivalent inside +-``margin``, different wholly outside.

    With a 90 % interval this is two one-sided tests at 5 % (Schuirmann 1987); a 95 % interval is stricter.
    """
    if -margin <= difference.low and difference.high <= margin:
        return "equivalent"
    return "different" if difference.low > margin or difference.high < -margin else "inconclusive"


def departure(serial: Sequence[float], parallel: Sequence[float], accuracy: Accuracy, verdict: Verdict) -> str | None:
    """Return how a timed training left the serial one beside it, in words, or None.

    Both train in the workload's own precision, mostly float32, where rounding grows from epoch to epoch. So the mean
    loss of the first epoch is held to a tenth of a percent (clean trainings: 3e-7 at most) where the case was judged
    against plain serial training, and to a fifth where its maths deviates by design (clean: 2e-2); from then on the
    held-out accuracy must not be worse for certain.

    Args:
        serial: mean training loss of each epoch.
        parallel: the same of the parallel training.
        accuracy: held-out accuracy of both.
        verdict: of the case.
    """
    limit = FIRST_EPOCH if verdict.reference == "plain" else FIRST_EPOCH_OWN_MATHS
    if serial and parallel and not abs(parallel[0] - serial[0]) <= limit * abs(serial[0]):
        return (
            f"while it was timed, the mean loss of its first epoch was {parallel[0]:.4g} and that of serial training "
            f"{serial[0]:.4g}: it trains something else than what was checked"
        )
    difference = accuracy_difference(accuracy.serial, accuracy.parallel, accuracy.num_held_out)
    if judge_accuracy(difference) == "different" and difference.high < 0:
        return (
            f"while it was timed, its held-out accuracy fell to {accuracy.parallel:.1%} where serial training reaches "
            f"{accuracy.serial:.1%}"
        )
    return None


def mcnemar(num_only_first: int, num_only_second: int) -> float:
    """Return the exact two-sided p-value for disagreements that fall either way equally often."""
    total, fewer = num_only_first + num_only_second, min(num_only_first, num_only_second)
    tail = sum(math.comb(total, k) for k in range(fewer + 1))
    return min(1.0, 2 * tail / (1 << total))


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _wilson(share: float, count: int, z: float) -> tuple[float, float]:
    """Return Wilson's score interval (1927) for a share of ``count``."""
    centre, width = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    scale = 1 + z * z / count
    return max(0.0, (centre - width) / scale), min(1.0, (centre + width) / scale)


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    product = both * neither - only_first * only_second
    count = both + only_first + only_second + neither
    if product > 0:
        product = max(0, product - count // 2)
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    return product / math.sqrt(margins) if margins else 0.0


def _difference(first: float, second: float, count: int, correlation: float, z: float) -> Interval:
    low_1, high_1 = _wilson(first, count, z)
    low_2, high_2 = _wilson(second, count, z)

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))

    return Interval(
        median=first - second,
        low=first - second - reach(first - low_1, high_2 - second),
        high=first - second + reach(high_1 - first, second - low_2),
    )
