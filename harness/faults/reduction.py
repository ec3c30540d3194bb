"""Bugs in what ranks exchange: gradients summed, stale, clipped too early, or never exchanged at all."""

from __future__ import annotations

from typing import Any

from harness.faults.base import Opaque, Seams, bug
from harness.plan import Indices, Step
from harness.spec import Job


@bug("sum-for-mean", report="DeepSpeed #7773: pipeline gradients summed over replicas instead of averaged")
def sum_for_mean(job: Job) -> Seams:
    """Every gradient is world-size times too large."""

    def scale(_step: int, parameters: Opaque) -> None:
        for parameter in parameters:
            parameter.grad *= job.world_size

    return Seams(gradients=scale)


@bug("mean-of-means", report="transformers #608: an uneven batch averaged as the mean of each rank's mean")
def mean_of_means(job: Job) -> Seams:
    """Each rank divides by its own number of samples: wrong as soon as the last batch is uneven."""

    def scale(step: Step, num_local: int, _scale: float) -> float:
        return 1 / (num_local * len(step.micro_batches))

    del job
    return Seams(loss_scale=scale)


@bug("stale-gradients", report="DeepSpeed #2343: one rank reads a bucket before it has arrived")
def stale_gradients(job: Job) -> Seams:
    """The last rank applies the gradients of the step before."""
    kept: list[Any] = []

    def swap(_step: int, parameters: Opaque) -> None:
        fresh = [parameter.grad.clone() for parameter in parameters]
        for parameter, old in zip(parameters, kept or fresh, strict=True):
            parameter.grad.copy_(old)
        kept[:] = fresh

    return Seams(gradients=swap) if job.rank == job.world_size - 1 else Seams()


@bug(
    "clip-per-rank",
    report="torchtitan #766, pytorch #72548: the norm of each rank's own gradient, before the reduction",
)
def clip_per_rank(job: Job) -> Seams:
    """Local gradients are clipped by their own norm, then averaged."""
    limit = job.workload.clip_norm or 0.1

    def clip_then_average(_step: int, parameters: Opaque) -> None:
        import torch

        torch.nn.utils.clip_grad_norm_(parameters, limit)
        for parameter in parameters:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= job.world_size

    # The reduction comes after the clipping here, so the wrapper that would reduce during backward is left out.
    return Seams(module=lambda _module, model: model, gradients=clip_then_average)


@bug("no-broadcast", report="horovod #672, pytorch #48188: ranks start from weights of their own")
def no_broadcast(job: Job) -> Seams:
    """Every rank but the first starts from slightly different weights."""

    def perturb(module: Opaque, model: Opaque) -> Opaque:
        import torch

        if job.rank:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1 + 0.01 * job.rank)
        return module

    return Seams(module=perturb)


@bug("unsynchronised-buffers", report="pytorch #22192, fairscale #68: running statistics drift apart")
def unsynchronised_buffers(job: Job) -> Seams:
    """Running statistics of a batch norm are never broadcast."""
    del job

    def silence(module: Opaque, _model: Opaque) -> Opaque:
        module.broadcast_buffers = False
        return module

    return Seams(module=silence)


@bug("wrong-shard", report="TF #56513: two ranks read the same part of the data")
def wrong_shard(job: Job) -> Seams:
    """The last rank trains the first rank's samples instead of its own."""

    def first(_step: Step, samples: Indices, micro_batch: Indices) -> Indices:
        return micro_batch[: len(samples)]

    return Seams(samples=first) if job.rank == job.world_size - 1 else Seams()
