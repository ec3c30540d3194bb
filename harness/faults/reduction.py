"""Bugs in what ranks exchange: gradients summed, stale, clipped too early, or never exchanged at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness import plan
from harness.faults.base import Expected, Opaque, Seams, Site, bug
from harness.faults.scope import (
    DEEPSPEED,
    GRADIENTS,
    KERAS,
    ONE_PROCESS,
    REPLICAS,
    SHARDED,
    first_step,
    in_gradients,
    local,
    on_gradients,
    shows,
    times,
)
from harness.models import base as models
from harness.plan import Indices, Step
from harness.spec import Job


@bug(
    "sum-for-mean",
    report="DeepSpeed #7773: pipeline gradients summed over replicas instead of averaged",
    entry=1,
    on=(*GRADIENTS, *ONE_PROCESS, *DEEPSPEED, *KERAS),
    expects=in_gradients,
    causes=("summed-not-averaged",),
    partial={
        "one tensor": {"tensor": "last"},
        "one rank": {"rank": -1},
        "one step in ten": {"first": 1, "every": 10},
        "one element": {"tensor": "last", "element": 0},
    },
)
def sum_for_mean(job: Job) -> Seams:
    """Every gradient is world-size times too large."""
    return on_gradients(job, times(job.world_size))


def _where_uneven(site: Site) -> Expected:
    """Expect it in the first step whose micro-batch is not shared out evenly."""
    step = first_step(site.workload, lambda step: any(len(batch) % site.world_size for batch in step.micro_batches))
    assert step is not None, "a fault's harmless() says so before"
    return Expected(rungs=("loss",), step=step)


def _all_even(site: Site) -> str | None:
    steps = plan.check_steps(site.workload)
    even = all(len(batch) % site.world_size == 0 for step in steps for batch in step.micro_batches)
    return "every micro-batch is shared out evenly" if even else None


@bug(
    "mean-of-means",
    report="transformers #608: an uneven batch averaged as the mean of each rank's mean",
    entry=8,
    on=(*REPLICAS, *SHARDED, *DEEPSPEED, *KERAS),
    expects=_where_uneven,
    harmless=_all_even,
    causes=("mean-of-means",),
)
def mean_of_means(job: Job) -> Seams:
    """Each rank divides by its own number of samples: wrong as soon as the last batch is uneven."""

    def scale(step: Step, num_local: int, _scale: float) -> float:
        return 1 / (num_local * len(step.micro_batches))

    del job
    return Seams(loss_scale=scale)


@bug(
    "stale-gradients",
    report="DeepSpeed #2343: one rank reads a bucket before it has arrived",
    entry=28,
    on=(*GRADIENTS, *KERAS),
    expects=shows("gradients before clipping", step=1, last_rank=True),
    causes=("stale-gradients",),
)
def stale_gradients(job: Job) -> Seams:
    """The last rank applies the gradients of the step before."""
    kept: list[Any] = []

    def swap(_step: int, parameters: Opaque) -> None:
        trained = [parameter for parameter in parameters.values() if parameter.grad is not None]
        fresh = [1 * local(parameter.grad) for parameter in trained]
        for parameter, old in zip(trained, kept or fresh, strict=True):
            local(parameter.grad)[...] = old
        kept[:] = fresh

    return Seams(gradients=swap) if job.rank == job.world_size - 1 else Seams()


@bug(
    "clip-per-rank",
    report="torchtitan #766, pytorch #72548: the norm of each rank's own gradient, before the reduction",
    entry=30,
    on=("torch-ddp",),
    expects=shows("gradients before clipping"),
    needs={"clip_norm": 0.1},
    causes=("clipped-per-rank",),
)
def clip_per_rank(job: Job) -> Seams:
    """Local gradients are clipped by their own norm, then averaged."""
    limit = job.workload.clip_norm or 0.1

    def clip_then_average(_step: int, parameters: Opaque) -> None:
        import torch

        torch.nn.utils.clip_grad_norm_(parameters.values(), limit)
        for parameter in parameters.values():
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= job.world_size

    # The reduction comes after the clipping here, so the wrapper that would reduce during backward is left out.
    return Seams(module=lambda _module, model: model, gradients=clip_then_average)


@bug(
    "no-broadcast",
    report="horovod #672, pytorch #48188: ranks start from weights of their own",
    entry=17,
    on=(*GRADIENTS, *KERAS),
    expects=shows("parameters", step=-1),
    causes=("no-broadcast",),
)
def no_broadcast(job: Job) -> Seams:
    """Every rank but the first starts from slightly different weights."""

    def perturb(weights: Mapping[str, Opaque]) -> None:
        for value in weights.values():
            local(value)[...] *= 1 + 0.01 * job.rank

    return Seams(weights=perturb) if job.rank else Seams()


def _no_buffers_to_broadcast(site: Site) -> str | None:
    if "broadcast-buffers=false" in site.strategy:
        return "nothing broadcasts them"
    return None if models.has_batchnorm(models.layers(site.workload)) else "there are no running statistics"


def _on_the_others(site: Site) -> Expected:
    """Expect it on every rank but the first, whose buffers are the ones that live on."""
    return Expected(rungs=("buffers at next forward",), step=1, ranks=tuple(range(1, site.world_size)))


@bug(
    "unsynchronised-buffers",
    report="pytorch #22192, fairscale #68: running statistics drift apart",
    entry=35,
    on=("torch-ddp",),
    expects=_on_the_others,
    needs={"model": "mnist-cnn"},
    harmless=_no_buffers_to_broadcast,
    causes=("buffers-not-synchronised",),
)
def unsynchronised_buffers(job: Job) -> Seams:
    """Running statistics of a batch norm are never broadcast."""
    del job

    def silence(module: Opaque, _model: Opaque) -> Opaque:
        module.broadcast_buffers = False
        return module

    return Seams(module=silence)


@bug(
    "wrong-shard",
    report="TF #56513: two ranks read the same part of the data",
    entry=45,
    on=(*REPLICAS, *SHARDED, *DEEPSPEED, *KERAS),
    expects=shows("data order", last_rank=True),
    causes=("wrong-samples",),
)
def wrong_shard(job: Job) -> Seams:
    """The last rank trains the first rank's samples instead of its own."""

    def first(_step: Step, samples: Indices, micro_batch: Indices) -> Indices:
        return micro_batch[: len(samples)]

    return Seams(samples=first) if job.rank == job.world_size - 1 else Seams()
