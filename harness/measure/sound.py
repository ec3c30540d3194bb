"""Whether what ranks tell of their epochs can be: a clock that goes backwards makes a figure like any other."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.errors import UsageError
from harness.timings import Epoch

_STAMP = "stamp its start and its end with time.monotonic()"


def flaw(epoch: Epoch, *, after_s: float = -math.inf, before_s: float = math.inf) -> str | None:
    """Return in words why an epoch cannot have been, or None; it lies between two times of the same clock.

    A rank that trains no samples of its own, since another one hands out its work, may take no time.
    """
    start_s, end_s = epoch.start_s, epoch.end_s
    if not (math.isfinite(start_s) and math.isfinite(end_s)):
        return f"expected finite times but the epoch lasts from {start_s} to {end_s}; {_STAMP}"
    if end_s < start_s:
        return f"expected an epoch to end after its start but it ended {start_s - end_s:.3g} s before; {_STAMP}"
    if end_s == start_s and epoch.num_samples:
        return f"expected {epoch.num_samples} samples to take time but the epoch took 0 s; {_STAMP}"
    if start_s < after_s:
        return (
            f"expected the epoch to begin when it is its turn but it began {after_s - start_s:.3g} s earlier; {_STAMP} "
            "within the turn"
        )
    if end_s > before_s:
        return (
            f"expected the epoch to be over once the rank tells so but it ended {end_s - before_s:.3g} s later; "
            f"{_STAMP} within the turn"
        )
    return None


def odd_one(column: Sequence[Epoch]) -> tuple[int, str] | None:
    """Return which rank tells of another number of samples than its peers, and that in words, or None.

    ``column`` holds the same epoch as each rank tells it. Each tells the samples of all ranks; a rank that trains none
    of its own tells 0, but rank 0 never does.
    """
    counts = [epoch.num_samples for epoch in column]
    told = [count for count in counts if count]
    if not counts or counts[0] <= 0:
        return 0, f"expected rank 0 to tell how many samples all ranks trained but it told {counts[0] if counts else 0}"
    usual = max(set(told), key=lambda count: (told.count(count), count == counts[0]))
    odd = next((rank for rank, count in enumerate(counts) if count not in {0, usual}), None)
    if odd is None:
        return None
    return odd, (
        f"expected every rank to tell the number of samples of all ranks, {usual} as most do, but it told "
        f"{counts[odd]}; count the samples of the whole epoch, not of a rank"
    )


def require_sound(ranks: Sequence[Sequence[Epoch]]) -> None:
    """Raise unless these epochs, a row per rank and an epoch per column, can have been.

    Raises:
        UsageError: an epoch ends before it starts, starts before the last one ended, takes no time or is not finite;
            or ranks tell of different numbers of samples.
    """
    for rank, row in enumerate(ranks):
        ended_s = -math.inf
        for number, epoch in enumerate(row):
            if (why := flaw(epoch)) is not None:
                raise UsageError(f"epoch {number} of rank {rank}: {why}")
            if epoch.start_s < ended_s:
                raise UsageError(
                    f"epoch {number} of rank {rank}: expected it to begin after the last one ended but it began "
                    f"{ended_s - epoch.start_s:.3g} s before; {_STAMP}"
                )
            ended_s = epoch.end_s
    for number, column in enumerate(zip(*ranks, strict=False)):
        if (odd := odd_one(column)) is not None:
            raise UsageError(f"epoch {number} of rank {odd[0]}: {odd[1]}")
