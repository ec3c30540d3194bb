"""Two one-sided tests over paired differences: what an interval says, and how many pairs it takes.

D. J. Schuirmann, "A comparison of the two one-sided tests procedure and the power approach for assessing the
equivalence of average bioavailability", Journal of Pharmacokinetics and Biopharmaceutics 15 (1987), 657-680.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from harness.errors import MissingRequirementError
from harness.record import Conclusion
from harness.timings import Interval

# Each of the two tests at 5 %: their joint acceptance is the 90 % interval inside the margin.
INSIDE, OUTSIDE = 0.90, 0.95
# Points of the distribution of the sample's deviation over which a power is averaged.
_NUM_POINTS = 400


def paired_interval(differences: Sequence[float], confidence: float) -> Interval:
    """Return the mean of at least two ``differences`` with Student's interval, in ``median``, ``low`` and ``high``."""
    mean = float(np.mean(differences))
    reach = _quantile(0.5 + confidence / 2, len(differences) - 1) * deviation(differences)
    reach /= math.sqrt(len(differences))
    return Interval(median=mean, low=mean - reach, high=mean + reach)


def conclude(differences: Sequence[float], margin: float) -> Conclusion:
    """Conclude from finite paired differences.

    ``equivalent``: the 90 % interval of their mean lies within +-``margin``, both one-sided tests at 5 %.
    ``different``: the 95 % interval lies wholly beyond it, on one side. ``inconclusive``: neither.
    """
    inside, outside = paired_interval(differences, INSIDE), paired_interval(differences, OUTSIDE)
    if -margin <= inside.low and inside.high <= margin:
        return "equivalent"
    return "different" if outside.low > margin or outside.high < -margin else "inconclusive"


def power(num_pairs: int, ratio: float) -> float:
    """Return how often ``num_pairs`` show equivalence when there is no difference.

    ``ratio`` is the deviation of the differences over the margin. Exact for normal differences: given their sample
    deviation s, which is independent of the mean, the mean must lie within margin - t s / sqrt(n); averaged over s.
    """
    special = _special()
    freedom = num_pairs - 1
    points = (np.arange(_NUM_POINTS) + 0.5) / _NUM_POINTS
    sample = np.sqrt(2 * special.gammaincinv(freedom / 2, points) / freedom)
    room = math.sqrt(num_pairs) / ratio - _quantile(0.5 + INSIDE / 2, freedom) * sample
    return float(np.mean(np.maximum(0.0, 2 * special.ndtr(room) - 1)))


def num_pairs_needed(ratio: float, *, wanted: float = 0.9, least: int = 2) -> int:
    """Return the smallest number of pairs with power ``wanted``; ``ratio`` as in ``power``, finite."""
    if ratio == 0:
        return least
    normal = NormalDist()
    # With the deviation known it would take so many; not knowing it only adds some.
    known = (ratio * (normal.inv_cdf(0.5 + INSIDE / 2) + normal.inv_cdf(0.5 + wanted / 2))) ** 2
    num = max(least, math.floor(known))
    while power(num, ratio) < wanted:
        num += 1
    return num


def deviation(differences: Sequence[float]) -> float:
    """Return the sample's standard deviation."""
    return float(np.std(differences, ddof=1))


def _quantile(level: float, freedom: int) -> float:
    return float(_special().stdtrit(freedom, level))


def _special() -> Any:
    try:
        from scipy import special
    except ImportError as error:
        raise MissingRequirementError(
            "judging statistically needs scipy, which is not installed; install the extra 'report'"
        ) from error
    return special
