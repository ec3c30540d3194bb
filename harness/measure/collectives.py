"""What a rank's collectives did in a profiled epoch: calls, bytes, time hidden and exposed, bandwidth.

Bandwidths are nccl-tests' (doc/PERFORMANCE.md): algbw is a message's size over its time, busbw that times a factor of
the collective, by which it can be held against the link whatever the number of ranks. The size of an all-gather and of
a reduce-scatter is that of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.measure import network
from harness.timings import Communication

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something a profiler saw, in seconds; ``num_bytes`` is what a collective was handed, 0 for all else."""

    name: str
    start_s: float
    end_s: float
    num_bytes: int = 0

    @property
    def kind(self) -> str:
        """The collective's name in one spelling: ``gloo:all_reduce`` is ``allreduce``."""
        return self.name.partition(":")[2].replace("_", "")


def communication(
    collectives: Sequence[Event],
    computing: Iterable[Event],
    *,
    moving: Sequence[Event] | None = None,
    rank: int,
    num_ranks: int | None,
    epoch_s: float,
    link_bytes_per_s: float | None = None,
) -> Communication | None:
    """Return what the collectives of one epoch did beside what the rank computed; None where there were none.

    ``moving`` is when they were under way where a device tells that apart from when they were called. ``num_ranks`` is
    how many took part in every one, None where that differs or is not known: then, and where messages go from rank to
    rank, whose time is mostly waiting for the other's work, there is no bandwidth.
    """
    own = [event for event in collectives if "barrier" not in event.kind]
    if not own:
        return None
    first_s = min(event.start_s for event in own)
    under_way = own if moving is None else [event for event in moving if event.start_s >= first_s]
    busy = union((event.start_s, event.end_s) for event in under_way)
    work = union((event.start_s, event.end_s) for event in computing)
    busy_s = length(busy)
    moved = None if num_ranks is None else bus_bytes(own, num_ranks)
    return Communication(
        rank=rank,
        num_calls=len(own),
        num_bytes=sum(event.num_bytes for event in own),
        busy_s=busy_s,
        exposed_s=busy_s - overlap(busy, work),
        epoch_s=epoch_s,
        bus_bytes_per_s=moved / busy_s if moved and busy_s else None,
        link_bytes_per_s=link_bytes_per_s,
    )


def bus_bytes(collectives: Iterable[Event], num_ranks: int) -> float | None:
    """Return the bytes that collectives put on each rank's link; None where one has no factor."""
    total = 0.0
    for event in collectives:
        factor = bus_factor(event.kind, num_ranks)
        if factor is None:
            return None
        # An all-gather is handed a rank's piece of the whole.
        total += factor * event.num_bytes * (num_ranks if "gather" in event.kind else 1)
    return total


def bus_factor(kind: str, num_ranks: int) -> float | None:
    """Return what turns algbw into busbw for a collective, by nccl-tests; None for one that it does not define."""
    if "allreduce" in kind:
        return network.bus_factor("all-reduce", num_ranks)
    if "allgather" in kind or "reducescatter" in kind or "alltoall" in kind:
        return network.bus_factor("all-gather", num_ranks)
    return 1.0 if "broadcast" in kind or kind == "reduce" else None


def union(spans: Iterable[Span]) -> list[Span]:
    """Return the same times as spans that do not overlap, in order."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def length(spans: Sequence[Span]) -> float:
    """Return the seconds of spans that do not overlap."""
    return float(sum(end - start for start, end in spans))


def overlap(first: Sequence[Span], second: Sequence[Span]) -> float:
    """Return the seconds that lie in both, each of spans that do not overlap among themselves, in order."""
    if not first or not second:
        return 0.0
    starts, ends = np.array(second).T
    # Up to any moment, how much of the second has passed.
    times = np.stack([starts, ends], axis=1).ravel()
    passed = np.concatenate([[0.0], np.cumsum(ends - starts)])
    total = np.stack([passed[:-1], passed[1:]], axis=1).ravel()
    return float(sum(np.interp(end, times, total) - np.interp(start, times, total) for start, end in first))
