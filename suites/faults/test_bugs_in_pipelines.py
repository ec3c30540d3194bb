"""Bugs in pipelines, whose ranks hold layers of their own: injected ones, and mistakes that only stages allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from wrong_strategies import declared, judged

from harness import Job, Trace, Workload, workloads
from harness.runner import Runner
from harness.spec import Optimizer

pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]
ADAMW = Optimizer(name="adamw", learning_rate=1e-3, weight_decay=1e-2)
CLIPPED = Workload(name="pipelined", model="mlp", dataset="digits", optimizer=ADAMW, clip_norm=0.1)
TIED = msgspec.structs.replace(workloads.get("digits-tied-mlp"), name="tied", clip_norm=0.1)
# Cut so that the two layers with one weight lie in different stages.
APART = "5-5"
# Where each bug must show first; -1 is before the first step.
FIRST_SEEN = {
    "learning-rate-x-world": ("parameters", 0),
    "lost-momentum": ("optimizer state", 2),
    "no-broadcast": ("parameters", -1),
    "regulariser-x-world": ("parameters", 0),
    "stale-gradients": ("gradients before clipping", 1),
    "sum-for-mean": ("gradients before clipping", 0),
}
# torchgpipe is one process: it has no last rank on which such a bug could strike.
ON_A_RANK = {"no-broadcast", "stale-gradients"}
CAUGHT = [
    (name, bug)
    for name in ("torch-pp", "torch-pp+schedule=1f1b", "torchgpipe")
    for bug in FIRST_SEEN
    if name != "torchgpipe" or bug not in ON_A_RANK
]


@pytest.mark.parametrize(("name", "bug"), CAUGHT)
def test_bug_is_caught_in_the_stage_where_it_first_acts(name: str, bug: str, ls_runner: Runner) -> None:
    verdict = judged(ls_runner, name, CLIPPED, bug)
    assert verdict.conclusion == "different", verdict
    assert verdict.divergence is not None
    assert (verdict.divergence.rung, verdict.divergence.step) == FIRST_SEEN[bug], verdict
    assert verdict.divergence.times_threshold > 1e5, verdict


@pytest.mark.parametrize(
    ("bug", "rung", "step"), [("mean-of-means", "loss", 2), ("wrong-shard", "loss", 0), ("no-broadcast", None, -1)]
)
def test_bug_of_one_replica_of_a_pipeline_is_caught(bug: str, rung: str | None, step: int, ls_runner: Runner) -> None:
    verdict = judged(ls_runner, "torch-ddp-pp", CLIPPED, bug, world_size=4)
    assert verdict.conclusion == "different", verdict
    assert verdict.divergence is not None
    assert verdict.divergence.step == step, verdict
    assert rung in (None, verdict.divergence.rung), verdict


@pytest.mark.parametrize("name", ["torch-pp", "torch-pp+schedule=1f1b", "torchgpipe"])
def test_the_same_pipelined_case_without_a_bug_is_equivalent(name: str, ls_runner: Runner) -> None:
    assert judged(ls_runner, name, CLIPPED).equivalent


# -- mistakes that only stages allow ---------------------------------------------------------------------------------


def _train(job: Job, change: Callable[[Any, Any], Any], balance: str = "") -> tuple[Trace, ...]:
    import torch.distributed as dist

    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import fit
    from harness.loops.torch_pipeline import Pipeline

    with process_group(job) as comm:
        assert dist.group.WORLD is not None
        pipeline = Pipeline(job, dist.group.WORLD, schedule="gpipe", chunks=2, balance=balance)
        return fit(job, change(pipeline, pipeline.parallelism(comm, tells_samples=job.rank == 0)))


def forgets_tied(job: Job) -> tuple[Trace, ...]:
    return _train(job, lambda _, own: dataclasses.replace(own, synchronise=lambda _: None), APART)


def clips_each_stage(job: Job) -> tuple[Trace, ...]:
    def clip(parameters: Any, workload: Workload) -> None:
        import torch

        assert workload.clip_norm is not None
        torch.nn.utils.clip_grad_norm_(parameters, workload.clip_norm)

    return _train(job, lambda _, own: dataclasses.replace(own, clip=clip))


def counts_tied_twice(job: Job) -> tuple[Trace, ...]:
    def change(pipeline: Any, own: Any) -> Any:
        def clip(parameters: Any, workload: Workload) -> None:
            pipeline._shared = [(parameter, group, True) for parameter, group, _ in pipeline._shared]
            pipeline.clip(parameters, workload)

        return dataclasses.replace(own, clip=clip)

    return _train(job, change, APART)


def divides_by_micro_batches(job: Job) -> tuple[Trace, ...]:
    def change(pipeline: Any, own: Any) -> Any:
        def backward(module: Any, batch: Any) -> Any:
            # What the library does unless it is told that the loss is a sum.
            pipeline.schedule(len(batch.labels) + len(batch.labels) % 2).scale_grads = True
            return pipeline.backward(module, batch)

        return dataclasses.replace(own, backward=backward)

    return _train(job, change)


def trains_padding(job: Job) -> tuple[Trace, ...]:
    from harness.loops import torch_pipeline

    torch_pipeline._NO_LABEL = 0
    return _train(job, lambda _, own: own)


WRONG: dict[Callable[[Job], tuple[Trace, ...]], tuple[Workload, str, int]] = {
    forgets_tied: (TIED, "gradients before clipping", 0),
    clips_each_stage: (CLIPPED, "gradients after clipping", 0),
    counts_tied_twice: (TIED, "gradients after clipping", 0),
    divides_by_micro_batches: (CLIPPED, "gradients before clipping", 0),
    trains_padding: (CLIPPED, "loss", 2),
}


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    with declared(*WRONG):
        yield


@pytest.mark.parametrize("train", WRONG, ids=lambda train: train.__name__)
def test_mistake_of_a_stage_is_caught(train: Callable[[Job], tuple[Trace, ...]], ls_runner: Runner) -> None:
    trained, rung, step = WRONG[train]
    verdict = judged(ls_runner, train.__name__, trained)
    assert verdict.conclusion == "different", verdict
    assert verdict.divergence is not None
    assert (verdict.divergence.rung, verdict.divergence.step) == (rung, step), verdict
    assert verdict.divergence.times_threshold > 1e5, verdict


def test_tied_layers_in_different_stages_are_equivalent_when_their_gradients_are_added(ls_runner: Runner) -> None:
    assert judged(ls_runner, f"torch-pp+balance={APART}", TIED).equivalent


@pytest.mark.parametrize(("name", "world_size"), [("torch-pp", 2), ("torch-ddp-pp", 4)])
def test_a_stage_that_trains_nothing_is_equivalent(name: str, world_size: int, ls_runner: Runner) -> None:
    # torch refuses to clip its gradients, and to wrap it in DDP, which would bring it the first replica's weights.
    trained = Workload(
        name="untrained", model="mlp", model_options={"depth": 1}, dataset="digits", frozen=("dense1",), clip_value=0.01
    )
    assert judged(ls_runner, f"{name}+balance=3-1", trained, world_size=world_size).equivalent


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_around_a_pipeline_of_threads_is_lost(precision: str, ls_runner: Runner) -> None:
    trained = workloads.get(f"digits-mlp-{precision}")
    lost = judged(ls_runner, "torchgpipe+autocast=outside", trained)
    # Rounding of half precision is no bug in float64, so the verdict is none; the loss tells all the same.
    assert lost.conclusion == "inconclusive", lost
    assert f"in {precision} alone it differs first at step 0, in loss of loss" in lost.reason
    assert judged(ls_runner, "torchgpipe", trained).equivalent
