"""Bugs in what a loss is divided by: ranks, samples, micro-batches."""

from __future__ import annotations

from harness.faults.base import Expected, Seams, Site, bug
from harness.faults.scope import DEEPSPEED, GRADIENTS, KERAS, ONE_PROCESS, REPLICAS, SHARDED, first_step, shows
from harness.plan import Step
from harness.spec import Job

EVERYWHERE = (*GRADIENTS, *ONE_PROCESS)


@bug(
    "loss-x-world",
    report="sparseml PR #135: the loss is multiplied by the world size besides",
    entry=2,
    on=(*EVERYWHERE, *DEEPSPEED, *KERAS),
    expects=shows("loss"),
    causes=("loss-scaled",),
)
def loss_x_world(job: Job) -> Seams:
    """The loss is world-size times too large."""
    return Seams(loss_scale=lambda _step, _num_local, scale: scale * job.world_size)


@bug(
    "loss-divided-twice",
    report="TF #31317, #35333: a loss divided by the global batch is averaged over the replicas once more",
    entry=6,
    on=EVERYWHERE,
    expects=shows("loss"),
    causes=("loss-scaled",),
)
def loss_divided_twice(job: Job) -> Seams:
    """The loss is divided by the number of ranks once too often."""
    return Seams(loss_scale=lambda _step, _num_local, scale: scale / job.world_size)


@bug(
    "sum-of-means",
    report="TF #28956: the loss is divided by the batch of a replica, then summed over replicas",
    entry=6,
    on=(*REPLICAS, *SHARDED),
    expects=shows("loss"),
    causes=("loss-scaled",),
)
def sum_of_means(job: Job) -> Seams:
    """Each rank divides by its own number of samples, and the ranks' means are added up."""

    def scale(step: Step, num_local: int, _scale: float) -> float:
        return job.world_size / (num_local * len(step.micro_batches))

    return Seams(loss_scale=scale)


@bug(
    "accumulation-not-divided",
    report="stylegan3 #184, transformers PR #35438: losses of micro-batches are added up, each a mean",
    entry=10,
    on=EVERYWHERE,
    expects=shows("loss"),
    # Another number than that of the ranks, whose mistakes have the same shape.
    needs={"accumulation": 3},
    causes=("accumulation-not-divided",),
)
def accumulation_not_divided(job: Job) -> Seams:
    """The loss is as many times too large as a step has micro-batches."""
    del job
    return Seams(loss_scale=lambda step, _num_local, scale: scale * len(step.micro_batches))


@bug(
    "divided-by-micro-batches",
    report="AReaL PR #1273: what is a mean over micro-batches already is divided by their number",
    entry=12,
    on=EVERYWHERE,
    expects=shows("loss"),
    needs={"accumulation": 3},
    causes=("divided-by-micro-batches",),
)
def divided_by_micro_batches(job: Job) -> Seams:
    """The loss is divided by the number of micro-batches twice."""
    del job
    return Seams(loss_scale=lambda step, _num_local, scale: scale / len(step.micro_batches))


def _where_micro_batches_differ(site: Site) -> Expected:
    step = first_step(site.workload, lambda step: len({len(batch) for batch in step.micro_batches}) > 1)
    assert step is not None, "three do not divide the batches of the check"
    return Expected(rungs=("loss",), step=step)


@bug(
    "mean-of-micro-batches",
    report="transformers PR #34191: a mean of the means of micro-batches that differ in size",
    entry=9,
    on=EVERYWHERE,
    expects=_where_micro_batches_differ,
    needs={"accumulation": 3},
    causes=("mean-of-means",),
)
def mean_of_micro_batches(job: Job) -> Seams:
    """Every micro-batch counts alike, however many samples it has."""
    del job
    size = [1.0]

    def note(step: Step, micro_batch: int, last: bool) -> bool:
        size[0] = len(step.micro_batches[micro_batch])
        return last

    def scale(step: Step, _num_local: int, factor: float) -> float:
        return factor * step.size / (len(step.micro_batches) * size[0])

    return Seams(last=note, loss_scale=scale)
