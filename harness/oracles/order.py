"""The data order: whether the ranks together train every sample of a step exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import TraceError
from harness.oracles.rungs import Comparison
from harness.plan import shard
from harness.record import RungFile, Tensor
from harness.recorder import read

SAMPLES = Tensor(name="samples", shape=())


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """One sample that a step trains too often, not at all, or although it belongs to another step."""

    sample: int
    rank: int
    text: str


def compare_order(
    reference: RungFile, parallel: Mapping[int, RungFile], *, accumulation: int = 1
) -> tuple[Comparison, dict[int, tuple[Mistake, ...]]]:
    """Compare which samples each step trains: D counts the mistakes of a rank, and nothing is allowed.

    A row lists the global sample indices a process trained in a step, in order, filled up with -1; rows may differ in
    length. Also returns the mistakes of every step that has some. ``accumulation`` helps to tell whose mistake it is.

    Raises:
        TraceError: a file is unreadable, or its steps are not those of the reference.
    """
    serial = _rows(reference, reference, "the reference")
    ranks = {rank: _rows(file, reference, f"rank {rank}") for rank, file in parallel.items()}
    found: dict[int, tuple[Mistake, ...]] = {}
    deviation = np.zeros((len(ranks), len(serial), 1))
    for t, (step, expected) in enumerate(zip(reference.steps, serial, strict=True)):
        mistakes = _mistakes(expected, {rank: rows[t] for rank, rows in ranks.items()}, accumulation)
        if mistakes:
            found[step] = mistakes
        for mistake in mistakes:
            deviation[list(ranks).index(mistake.rank), t, 0] += 1
    zero = np.zeros((len(serial), 1))
    counts = np.array([[len(row)] for row in serial], dtype=np.float64)
    comparison = Comparison(
        rung="data order",
        steps=reference.steps,
        ranks=tuple(ranks),
        tensors=(SAMPLES,),
        deviation=deviation,
        size=counts,
        noise=zero,
        floor=zero,
        moved=zero[0],
        held=np.ones((len(ranks), 1), dtype=np.bool_),
    )
    return comparison, found


def _rows(file: RungFile, reference: RungFile, who: str) -> list[NDArray[np.int64]]:
    if file.steps != reference.steps:
        raise TraceError(
            f"rung 'data order' of {who}: expected steps {list(reference.steps)} as in the reference but got "
            f"{list(file.steps)}; every rank must tap every step"
        )
    if [tensor.name for tensor in file.tensors] != [SAMPLES.name]:
        raise TraceError(
            f"rung 'data order' of {who}: expected the one tensor 'samples' but got "
            f"{[tensor.name for tensor in file.tensors]}; tap the global sample indices of each step, filled up with -1"
        )
    return [row[row >= 0] for row in np.asarray(read(file)).astype(np.int64)]


def _mistakes(
    expected: NDArray[np.int64], ranks: Mapping[int, NDArray[np.int64]], accumulation: int
) -> tuple[Mistake, ...]:
    together = np.concatenate(list(ranks.values()))
    if np.array_equal(np.sort(expected), np.sort(together)):
        return ()
    wanted = Counter(expected.tolist())
    holders: dict[int, list[int]] = {}
    for rank, samples in ranks.items():
        for sample in samples.tolist():
            holders.setdefault(sample, []).append(rank)
    owners = _owners(expected, tuple(ranks), accumulation)
    surplus = [_surplus(sample, who, owners) for sample, who in holders.items() if len(who) > wanted[sample]]
    lacking = [
        Mistake(sample=sample, rank=owners[sample], text=f"no rank trained sample {sample}")
        for sample, times in wanted.items()
        if len(holders.get(sample, ())) < times
    ]
    return (*surplus, *lacking)


def _surplus(sample: int, holders: list[int], owners: Mapping[int, int]) -> Mistake:
    """Blame the holder that has the sample without owning it, else the one that has it twice."""
    if sample not in owners:
        return Mistake(
            sample=sample,
            rank=holders[0],
            text=f"rank {holders[0]} trained sample {sample}, which does not belong to this step",
        )
    guilty = next((rank for rank in holders if rank != owners[sample]), holders[-1])
    if len(set(holders)) == 1:
        return Mistake(
            sample=sample, rank=guilty, text=f"rank {guilty} trained sample {sample} {len(holders)} times, expected 1"
        )
    others = " and ".join(f"rank {rank}" for rank in sorted(set(holders)) if rank != guilty)
    return Mistake(sample=sample, rank=guilty, text=f"rank {guilty} trained sample {sample}, which {others} has, too")


def _owners(expected: NDArray[np.int64], ranks: tuple[int, ...], accumulation: int) -> dict[int, int]:
    """Return who would own each sample if every micro-batch were cut into contiguous, equal shards."""
    return {
        sample: rank
        for micro_batch in np.array_split(expected, accumulation)
        for i, rank in enumerate(ranks)
        for sample in shard(micro_batch, i, len(ranks)).tolist()
    }
