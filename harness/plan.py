"""Which samples are trained when and by whom: drawn by numpy, the same for every framework and every sharding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import SpecError
from harness.spec import Arrangement, Split, Workload

Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One optimizer step, counted from 0: its micro-batches of global sample indices."""

    number: int
    epoch: int
    learning_rate: float
    micro_batches: tuple[Indices, ...]

    @property
    def size(self) -> int:
        """Real samples in this step over all ranks and micro-batches."""
        return sum(len(batch) for batch in self.micro_batches)


def epoch_order(seed: int, epoch: int, num_samples: int) -> Indices:
    """Return the order in which ``epoch`` visits the samples."""
    return np.random.default_rng([seed, 1, epoch]).permutation(num_samples).astype(np.int64)


def learning_rate(workload: Workload, epoch: int) -> float:
    """Return the learning rate of ``epoch``."""
    schedule = workload.schedule
    rate = workload.optimizer.learning_rate * schedule.gamma ** (epoch // schedule.every)
    return rate * epoch / schedule.warmup if epoch < schedule.warmup else rate


def epoch_steps(workload: Workload, epoch: int, num_samples: int, global_batch: int, first_step: int) -> list[Step]:
    """Return the optimizer steps of one epoch; the last batch holds what is left."""
    order = epoch_order(workload.seed, epoch, num_samples)
    return [
        Step(
            number=first_step + number,
            epoch=epoch,
            learning_rate=learning_rate(workload, epoch),
            micro_batches=tuple(np.array_split(order[start : start + global_batch], workload.accumulation)),
        )
        for number, start in enumerate(range(0, num_samples, global_batch))
    ]


def check_steps(workload: Workload) -> Iterator[Step]:
    """Yield the steps of the workload's equality check, epoch after epoch."""
    check, number, epoch = workload.check, 0, 0
    while number < check.num_steps:
        for step in epoch_steps(workload, epoch, check.num_samples, check.global_batch, number):
            if number < check.num_steps:
                yield step
                number += 1
        epoch += 1


def shard(samples: Indices, rank: int, world_size: int, split: Split = "balanced") -> Indices:
    """Return the contiguous piece of a micro-batch that belongs to ``rank``.

    ``balanced`` sizes differ by at most one; ``chunk`` are torch.chunk's (every piece but the last has the same size).
    """
    if split == "balanced":
        # As np.array_split, which takes 20 times as long.
        size, num_longer = divmod(len(samples), world_size)
        start = rank * size + min(rank, num_longer)
        return samples[start : start + size + (rank < num_longer)]
    size = -(-len(samples) // world_size)
    return samples[rank * size : (rank + 1) * size]


def arranged(samples: Indices, step: int, arrangement: Arrangement) -> list[Indices]:
    """Return a micro-batch as the groups in which a reference run (or rerun) processes it."""
    draw = None if arrangement.permute is None else np.random.default_rng([arrangement.permute, 2, step])
    if draw is not None and arrangement.batchnorm == "plain":
        samples = draw.permutation(samples)
    shards = [shard(samples, i, arrangement.shards, arrangement.split) for i in range(arrangement.shards)]
    if draw is not None and arrangement.batchnorm != "plain":
        shards = [draw.permutation(samples) for samples in shards]
    return shards


def smallest_shard(workload: Workload, world_size: int, *, batch: int, num_samples: int, split: Split) -> int:
    """Return the size of the smallest piece that any rank gets in any micro-batch of an epoch.

    Where a batch is cut as by torch.chunk, the pieces may be fewer than the ranks; empty ones do not count.
    """
    last = num_samples % batch or min(batch, num_samples)
    sizes = {min(batch, num_samples), last}
    pieces = [
        len(shard(micro, rank, world_size, split))
        for size in sizes
        for micro in np.array_split(np.arange(size, dtype=np.int64), workload.accumulation)
        for rank in range(world_size)
    ]
    return min(piece for piece in pieces if piece or split == "balanced")


def smallest_micro_batch(workload: Workload) -> int:
    """Return the size of the smallest micro-batch of the equality check."""
    check = workload.check
    return smallest_shard(workload, 1, batch=check.global_batch, num_samples=check.num_samples, split="balanced")


def require_samples_for_all(workload: Workload, world_size: int, split: Split, minimum: int) -> None:
    """Raise SpecError unless every rank gets ``minimum`` samples of every micro-batch of the equality check."""
    check = workload.check
    smallest = smallest_shard(
        workload, world_size, batch=check.global_batch, num_samples=check.num_samples, split=split
    )
    if smallest < minimum:
        raise SpecError(
            f"expected at least {minimum} sample(s) per rank in every micro-batch but workload "
            f"{workload.name!r} leaves {smallest} "
            f"(check batch {check.global_batch}, last batch "
            f"{check.num_samples % check.global_batch or check.global_batch}, "
            f"accumulation {workload.accumulation}, pieces {world_size}: one a rank, or a micro-batch of a "
            f"pipeline); enlarge check.global_batch and "
            "check.num_samples, or use fewer ranks"
        )
