"""What each storage precision can resolve: the constants of the oracle's definition."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from harness.errors import SpecError


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """The constants for one storage precision.

    ``unit`` is u, the spacing of numbers at 1, ``factor`` K. A tensor whose gradient's noise-to-signal ratio exceeds
    ``noise`` carries no signal; one whose allowed error exceeds ``resolution`` of its movement is unresolved. Both
    limits lie in an empty range of many decades in float64 (of 20,497 tensors none had a ratio between 1e-10 and
    1e-2); in float32, where a flipped ReLU fills that range, they are the upper end of it. ``chaotic`` says that such
    a flip can raise an alarm that does not count alone.
    """

    unit: float
    factor: float
    noise: float
    resolution: float
    chaotic: bool


PRECISIONS = {
    "float64": Precision(unit=2.0**-52, factor=100.0, noise=1e-6, resolution=1e-6, chaotic=False),
    "float32": Precision(unit=2.0**-23, factor=10.0, noise=1e-2, resolution=1e-2, chaotic=True),
    # Autocast: parameters are stored in float32, products are not. A smoke check: an error must only be smaller than
    # what training moves.
    "bf16": Precision(unit=2.0**-23, factor=10.0, noise=0.5, resolution=1.0, chaotic=True),
    "fp16": Precision(unit=2.0**-23, factor=10.0, noise=0.5, resolution=1.0, chaotic=True),
}


def precision_of(dtype: str) -> Precision:
    """Return the constants for ``dtype``; raise SpecError for a precision without measured constants."""
    if dtype not in PRECISIONS:
        raise SpecError(f"expected one of {', '.join(PRECISIONS)} but got dtype={dtype!r}; judge in float64")
    return PRECISIONS[dtype]


def storable(size: float) -> float:
    """Return ``size`` as JSON can hold it: what is not finite becomes the largest float."""
    return size if abs(size) <= sys.float_info.max else sys.float_info.max
