"""How a strategy that is not meant to compute the same is tried: a longer training, over as many seeds as it takes.

pilot of 5 seeds -> broken or different? told at once
                 -> seeds needed by its spread: more than 16? told at once -> the rest of them -> verdict
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from harness.datasets.base import Data
from harness.oracles import statistical
from harness.oracles.pair import Pair
from harness.oracles.statistical import HOPELESS, MOST, PILOT
from harness.record import Rung, Trace, Verdict
from harness.spec import Check, DType, Workload

# Steps of a training, and how many of them make an epoch: long enough for errors to add up, short enough for 16 seeds.
NUM_STEPS, STEPS_AN_EPOCH = 40, 4
# The usual batch, and the most samples that a held-out loss is taken over.
BATCH, NUM_HELD_OUT = 64, 256
_KEPT: frozenset[Rung] = frozenset({"data order", "loss", "predictions", "gradients before clipping"})


def judge(workload: Workload, train: Callable[[Workload], Pair]) -> Verdict:
    """Train pairs until they tell; ``train`` gets the workload with a seed of each pair's own."""
    if workload.check.resume_at is not None:
        reason = "a training that is interrupted is judged up to rounding only, and this strategy is not meant for that"
        return Verdict(conclusion="not-verified", reason=reason, reference="statistical")

    def pair(number: int) -> Pair:
        return train(msgspec.structs.replace(workload, seed=workload.seed + number))

    pairs: list[Pair] = []
    while len(pairs) < PILOT:
        pairs.append(pair(len(pairs)))
        if pairs[-1].broken is not None:
            return statistical.judge(pairs)
    while True:
        verdict = statistical.judge(pairs)
        needed = max((found.needed for found in verdict.statistics), default=PILOT)
        told = verdict.conclusion == "different" or (verdict.equivalent and len(pairs) > PILOT)
        if told or needed > HOPELESS or len(pairs) >= min(needed, MOST):
            return verdict
        # A spread is itself uncertain: where as many as it asked for leave it open, it is asked again.
        pairs += [pair(number) for number in range(len(pairs), min(needed, MOST))]


def training(workload: Workload, data: Data, dtypes: Sequence[DType]) -> Workload:
    """Return the workload with the check that a pair trains: 10 epochs of 4 steps, as far as the samples allow.

    No batch is uneven: what a strategy makes of those is for the exact oracle. In float32 where ``dtypes`` has it.
    """
    num_samples = len(data.labels)
    batch = max(workload.check.global_batch, min(BATCH, num_samples // STEPS_AN_EPOCH))
    check = Check(
        num_samples=batch * min(STEPS_AN_EPOCH, num_samples // batch),
        global_batch=batch,
        num_steps=NUM_STEPS,
        num_held_out=min(NUM_HELD_OUT, len(data.held_out_labels)),
        dtype=dtype(dtypes),
        ends_only=True,
    )
    return msgspec.structs.replace(workload, check=check)


def dtype(dtypes: Sequence[DType]) -> DType:
    """Return what a pair trains in: as users do, in float32, where an engine that has ``dtypes`` can."""
    return "float32" if "float32" in dtypes else dtypes[0]


def pared(trace: Trace) -> Trace:
    """Return the trace with what a pair is made of; all else is deleted, as many seeds' would fill the disk."""
    rungs = {rung: file for rung, file in trace.rungs.items() if rung in _KEPT}
    for rung in trace.rungs.keys() - rungs.keys():
        Path(trace.rungs[rung].file).unlink(missing_ok=True)
    return msgspec.structs.replace(trace, rungs=rungs)
