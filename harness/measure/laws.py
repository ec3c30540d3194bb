"""Laws of scaling: speed-up as a function of the number of ranks, and the fraction that a speed-up amounts to.

All are linear in their parameters once a speed-up S on p ranks is written as a ratio to the ideal:

    Amdahl 1967       p / S = 1 + s (p - 1)                             s: share of the serial run that stays serial
    USL               p / S = 1 + sigma (p - 1) + kappa p (p - 1)       Gunther 1993: contention, coherence
    Gustafson 1988    S / p = 1 - s (p - 1) / p                         s: share of the parallel run that stays serial
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.timings import Scaling

Floats = NDArray[np.float64]
LawName = Literal["Amdahl", "USL", "Gustafson"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Law:
    """A law's parameters with their upper bounds (the lower are 0), and how many sizes beyond 1 it takes to fit it."""

    name: LawName
    scaling: Scaling
    bounds: Mapping[str, float]
    least_sizes: int
    columns: Callable[[Floats], Sequence[Floats]]


LAWS: Mapping[LawName, Law] = {
    "Amdahl": Law(
        name="Amdahl", scaling="strong", bounds={"serial fraction": 1.0}, least_sizes=1, columns=lambda p: [p - 1]
    ),
    "USL": Law(
        name="USL",
        scaling="strong",
        bounds={"contention": 1.0, "coherence": math.inf},
        least_sizes=3,
        columns=lambda p: [p - 1, p * (p - 1)],
    ),
    "Gustafson": Law(
        name="Gustafson",
        scaling="weak",
        bounds={"serial fraction": 1.0},
        least_sizes=1,
        columns=lambda p: [(1 - p) / p],
    ),
}


def amdahl(num_ranks: float, serial_fraction: float) -> float:
    """Return the speed-up on ``num_ranks`` when a share of the serial run's time cannot be spread."""
    return usl(num_ranks, serial_fraction, 0.0)


def gustafson(num_ranks: float, serial_fraction: float) -> float:
    """Return the scaled speed-up on ``num_ranks`` when a share of the parallel run's time is serial work."""
    return num_ranks - serial_fraction * (num_ranks - 1)


def usl(num_ranks: float, sigma: float, kappa: float) -> float:
    """Return the speed-up of the universal scalability law with contention ``sigma`` and coherence ``kappa``."""
    return num_ranks / (1 + sigma * (num_ranks - 1) + kappa * num_ranks * (num_ranks - 1))


def usl_peak(sigma: float, kappa: float) -> float:
    """Return the number of ranks beyond which more make it slower, infinite where nothing grows with them."""
    return math.sqrt((1 - sigma) / kappa) if kappa > 0 else math.inf


def karp_flatt(speedup: float, num_ranks: float) -> float:
    """Return the serial fraction that one speed-up amounts to (Karp & Flatt 1990); negative where it is above linear.

    Raises:
        UsageError: one rank, or a speed-up that is not positive and finite.
    """
    _require_speedup(speedup, num_ranks)
    return (1 / speedup - 1 / num_ranks) / (1 - 1 / num_ranks)


def scaled_fraction(speedup: float, num_ranks: float) -> float:
    """Return the serial fraction that one scaled speed-up amounts to by Gustafson's law; negative above linear.

    Raises:
        UsageError: as ``karp_flatt``.
    """
    _require_speedup(speedup, num_ranks)
    return (num_ranks - speedup) / (num_ranks - 1)


def _require_speedup(speedup: float, num_ranks: float) -> None:
    if num_ranks <= 1 or not 0 < speedup < math.inf:
        raise UsageError(
            f"expected a positive speed-up on 2 or more ranks but got {speedup} on {num_ranks}; "
            "one rank says nothing about the serial fraction"
        )
