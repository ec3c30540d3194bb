"""Counter-based draws: the same numbers for every sharding, order of samples and framework.

A draw is a pure function of (seed, step, layer, global sample index, element): the 64-bit finaliser of SplitMix64
(Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) over a counter, as in Salmon et
al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). No state, so no rank can be ahead of another.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from harness.plan import Indices

Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_LANES = 4  # 16-bit draws in one 64-bit word
_BLOCK_WORDS = 16_384  # 128 KiB of state: stays in a core's second-level cache


def keep_mask(  # noqa: PLR0917  # the arguments are the key of the draw, in the order of its parts
    seed: int, step: int, layer: str, samples: Indices, shape: tuple[int, ...], rate: float
) -> NDArray[np.uint8]:
    """Return which activations dropout keeps: uint8 [n, *shape], 1 = kept, 0 = dropped.

    ``samples`` are global sample indices; row i depends on ``samples[i]`` alone, not on its neighbours. ``rate`` is
    the probability of a drop, in steps of 2**-16.
    """
    num_elements = int(np.prod(shape, dtype=np.int64))
    num_words = -(-num_elements // _LANES)
    counters = np.arange(1, num_words + 1, dtype=np.uint64) * _GOLDEN
    starts = _starts(seed, step, layer, samples)
    lowest_kept = np.uint16(min(round(rate * 2**16), 2**16 - 1))
    kept = np.empty((len(samples), num_elements), np.uint8)
    rows = max(1, _BLOCK_WORDS // max(num_words, 1))
    for first in range(0, len(samples), rows):
        words = _mix(starts[first : first + rows, None] + counters)
        lanes = words.astype("<u8", copy=False).view("<u2")[:, :num_elements]
        np.greater_equal(lanes, lowest_kept, out=kept[first : first + rows].view(np.bool_))
    return kept.reshape(len(samples), *shape)


def shifts(seed: int, step: int, samples: Indices, reach: int) -> NDArray[np.int64]:
    """Return an integer displacement (dy, dx) in [-reach, reach] for every sample: int64 [n, 2]."""
    words = _mix(_starts(seed, step, "shift", samples) + _GOLDEN)
    halves = words.astype("<u8", copy=False).view("<u4").reshape(len(samples), 2).astype(np.uint64)
    # Lemire's multiply-shift maps 32 bits to a small range; its bias is below range / 2**32.
    return ((halves * np.uint64(2 * reach + 1)) >> np.uint64(32)).astype(np.int64) - reach


def _starts(seed: int, step: int, layer: str, samples: Indices) -> Words:
    """Return one far-apart start of the counter per sample, shape [n]."""
    key = hashlib.blake2b(f"{seed}/{step}/{layer}".encode(), digest_size=8).digest()
    # Two rounds: the first spreads consecutive indices, the second keeps starts of two samples from being a simple
    # function of their distance.
    spread = _mix(samples.astype(np.uint64) * _GOLDEN + np.frombuffer(key, "<u8").astype(np.uint64))
    return _mix(spread ^ np.uint64(0xA0761D6478BD642F))


def _mix(words: Words) -> Words:
    """Apply SplitMix64's finaliser in place (Stafford's variant 13) and return ``words``."""
    words ^= words >> _SHIFTS[0]
    words *= _MULTIPLIERS[0]
    words ^= words >> _SHIFTS[1]
    words *= _MULTIPLIERS[1]
    words ^= words >> _SHIFTS[2]
    return words
