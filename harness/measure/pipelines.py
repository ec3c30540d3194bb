"""How busy the stages of a pipeline were, against what its schedule allows."""

from __future__ import annotations

from collections.abc import Sequence

from harness.timings import Epoch, Part, Pipeline

# What a rank does for its own layers, and what it does then or waits for.
WORK: tuple[Part, ...] = ("forward", "backward")
INSIDE: tuple[Part, ...] = (*WORK, "communication")


def ideal(num_ranks: int, num_micro_batches: int, num_stages_each: int = 1) -> float:
    """Return the share of the time in which ranks with stages of equal cost work: m / (m + (n - 1) / v).

    n ranks, m micro-batches (Huang et al. 2019, GPipe) and v stages a rank (Narayanan et al. 2021, interleaved 1F1B).
    """
    return num_micro_batches / (num_micro_batches + (num_ranks - 1) / num_stages_each)


def rank_of_pipeline(
    epochs: Sequence[Epoch], *, num_micro_batches: int, num_ranks: int, num_stages_each: int = 1
) -> Pipeline | None:
    """Return how busy one rank was, in the mean over its epochs but the first; None where no parts are told.

    ``epoch_s`` is the time inside the pipeline alone: its own work and waiting for other stages.
    """
    timed = [epoch for epoch in epochs[1:] or epochs if epoch.parts]
    inside_s = _mean(timed, INSIDE)
    if not inside_s:
        return None
    busy_s = _mean(timed, WORK)
    return Pipeline(
        busy_s=(busy_s,),
        epoch_s=inside_s,
        num_micro_batches=num_micro_batches,
        ideal=ideal(num_ranks, num_micro_batches, num_stages_each),
        efficiency=busy_s / inside_s,
    )


def joined(ranks: Sequence[Pipeline | None]) -> Pipeline | None:
    """Return the pipeline of which these are the ranks, in order; None where none of them tells of one."""
    told = [rank for rank in ranks if rank is not None]
    if not told:
        return None
    busy_s = tuple(seconds for rank in told for seconds in rank.busy_s)
    epoch_s = max(rank.epoch_s for rank in told)
    return Pipeline(
        busy_s=busy_s,
        epoch_s=epoch_s,
        num_micro_batches=told[0].num_micro_batches,
        ideal=told[0].ideal,
        efficiency=sum(busy_s) / len(busy_s) / epoch_s,
    )


def _mean(epochs: Sequence[Epoch], parts: Sequence[Part]) -> float:
    return sum(epoch.parts.get(part, 0.0) for epoch in epochs for part in parts) / max(1, len(epochs))
