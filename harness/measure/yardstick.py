"""A yardstick: fixed work whose seconds tell what mood the machine is in, so that two sessions can be compared."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np

# About 8 ms a core: arithmetic that stays in the first caches, and a sweep through more than they hold. No BLAS, whose
# threads would make it another measurement on another number of cores.
_SMALL = np.linspace(0.0, 1.0, 96 * 96, dtype=np.float32).reshape(96, 96)
_LARGE = np.linspace(0.0, 1.0, 1 << 18, dtype=np.float32)
_NUM_SMALL, _NUM_LARGE = 32, 32
# Results go where earlier ones went: fresh memory would be a lottery of its own.
_PRODUCT, _SWEPT = np.empty_like(_SMALL), np.empty_like(_LARGE)


def seconds(cores: Sequence[int] = ()) -> float:
    """Return the mean seconds of the fixed work on each of ``cores``, one after the other (empty: where it runs now).

    Nothing else of ours may run. The caller's affinity is as before afterwards.
    """
    if not cores or not hasattr(os, "sched_setaffinity"):
        return _once()
    before = os.sched_getaffinity(0)
    try:
        return float(np.mean([_once_on(core) for core in cores]))
    finally:
        os.sched_setaffinity(0, before)


def _once_on(core: int) -> float:
    os.sched_setaffinity(0, {core})
    return _once()


def _once() -> float:
    start_s = time.monotonic()
    for _ in range(_NUM_SMALL):
        np.einsum("ij,jk->ik", _SMALL, _SMALL, out=_PRODUCT)
    for _ in range(_NUM_LARGE):
        np.maximum(np.multiply(_LARGE, 0.5, out=_SWEPT), 0.25, out=_SWEPT).sum()
    return time.monotonic() - start_s
