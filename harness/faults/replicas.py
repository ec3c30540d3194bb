"""Bugs of libraries that keep replicas: divided by the wrong number of them, lost buffers, passes not averaged."""

from __future__ import annotations

from typing import Any

from harness.faults.base import Opaque, Seams, Site, bug
from harness.faults.scope import in_gradients, on_gradients, shows, times
from harness.plan import Step
from harness.spec import Job

# A mesh of two rows: the right number to divide by is that of the ranks with samples of their own.
MESHES = ("torch-ddp-pp", "torch-fsdp-tp", "torch-hsdp")
ROWS = 2


def _one_row(site: Site) -> str | None:
    return "both numbers are one and the same" if site.base == "torch-hsdp" and site.world_size == ROWS else None


@bug(
    "wrong-divisor",
    report="pytorch #36516: gradients divided by the world size, not by the number of replicas",
    entry=4,
    on=MESHES,
    expects=in_gradients,
    harmless=_one_row,
    causes=("wrong-divisor", "divided-twice", "summed-not-averaged"),
)
def wrong_divisor(job: Job) -> Seams:
    """A mesh's gradients are divided by the number of all ranks; where that is right, by the number of rows."""
    columns = job.world_size // ROWS
    factor = columns if job.strategy.startswith("torch-hsdp") else 1 / columns
    return on_gradients(job, times(factor))


@bug(
    "replica-losses-summed",
    report="pytorch #5778, jiant PR #989: DataParallel's mean losses, one a replica, are summed",
    entry=14,
    on=("torch-threads",),
    expects=shows("loss"),
    causes=("loss-scaled",),
)
def replica_losses_summed(job: Job) -> Seams:
    """The loss is the sum of the replicas' means."""

    def scale(_step: Step, _num_local: int, factor: float) -> float:
        return factor * job.world_size

    return Seams(loss_scale=scale)


@bug(
    "replica-buffers-lost",
    report="pytorch #1051: replicas update copies of the buffers, which are thrown away",
    entry=34,
    on=("torch-threads",),
    expects=shows("buffers"),
    needs={"model": "mnist-cnn", "shape": (1, 28, 28)},
    causes=("buffers-wrong",),
)
def replica_buffers_lost(job: Job) -> Seams:
    """The running statistics stay what they were before the step."""
    del job
    kept: list[tuple[Any, Any]] = []

    def keep(module: Opaque, model: Opaque) -> Opaque:
        kept.extend((buffer, buffer.clone()) for buffer in model.buffers())
        return module

    def restore(_step: int, _model: Opaque, _optimizer: Opaque) -> None:
        for buffer, before in kept:
            buffer.copy_(before)

    return Seams(module=keep, updated=restore)


@bug(
    "passes-not-averaged",
    report="horovod #1676: with backward_passes_per_step gradients are added up, not averaged",
    entry=16,
    on=("horovod-torch", "horovod-keras"),
    expects=in_gradients,
    needs={"accumulation": 2},
    causes=("accumulation-not-divided", "gradients-scaled", "summed-not-averaged"),
)
def passes_not_averaged(job: Job) -> Seams:
    """Every gradient is too large by the number of backward passes a step."""
    return on_gradients(job, times(job.workload.accumulation))
