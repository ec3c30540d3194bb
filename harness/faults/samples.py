"""Bugs in which samples a rank trains, and in what is drawn for them: orders, masks, augmentation."""

from __future__ import annotations

import dataclasses

import numpy as np

from harness import draws, plan
from harness.datasets import base as datasets
from harness.datasets.batches import REACH, Batch, shifted
from harness.faults.base import Expected, Seams, Site, bug
from harness.faults.scope import GRADIENTS, ONE_PROCESS, REPLICAS, SHARDED, first_step, shows
from harness.models import base as models
from harness.plan import Indices, Step
from harness.spec import Job

OF_SHARES = (*REPLICAS, *SHARDED)


def _in_second_epoch(site: Site) -> Expected:
    step = first_step(site.workload, lambda step: step.epoch == 1)
    assert step is not None, "the check ends in its second epoch"
    return Expected(rungs=("data order",), step=step)


@bug(
    "epoch-order",
    report="pytorch #31771: a sampler without set_epoch() brings the first epoch's order again",
    entry=43,
    on=(*GRADIENTS, *ONE_PROCESS),
    expects=_in_second_epoch,
    causes=("epoch-order",),
)
def epoch_order(job: Job) -> Seams:
    """Every epoch visits the samples in the order of the first."""
    workload = job.workload
    first = [step for step in plan.check_steps(workload) if step.epoch == 0]

    def again(step: Step, samples: Indices, _micro_batch: Indices) -> Indices:
        old = np.concatenate(first[step.number % len(first)].micro_batches)
        place = {int(sample): number for number, sample in enumerate(np.concatenate(step.micro_batches))}
        return old[[place[int(sample)] for sample in samples]]

    return Seams(samples=again)


def _where_uneven(site: Site) -> Expected:
    step = first_step(site.workload, lambda step: any(len(batch) % site.world_size for batch in step.micro_batches))
    assert step is not None, "the check has an uneven batch"
    return Expected(rungs=("data order",), step=step)


@bug(
    "padded-training",
    report="pytorch #25162: DistributedSampler repeats samples so that all shares are alike",
    entry=44,
    on=OF_SHARES,
    expects=_where_uneven,
    causes=("wrong-samples",),
)
def padded_training(job: Job) -> Seams:
    """Shares that are smaller than others are filled up with the batch's first sample."""

    def filled(_step: Step, samples: Indices, micro_batch: Indices) -> Indices:
        lacking = -(-len(micro_batch) // job.world_size) - len(samples)
        return np.concatenate([samples, micro_batch[:lacking]])

    return Seams(samples=filled)


@bug(
    "dropped-tail",
    report="DistributedSampler(drop_last=True), which pytorch #25162 led to: what does not divide evenly is dropped",
    entry=44,
    on=OF_SHARES,
    expects=_where_uneven,
    causes=("wrong-samples",),
)
def dropped_tail(job: Job) -> Seams:
    """Shares that are larger than others lose their last sample."""

    def cut(_step: Step, samples: Indices, micro_batch: Indices) -> Indices:
        return samples[: len(micro_batch) // job.world_size]

    return Seams(samples=cut)


@bug(
    "sharded-twice",
    report="TF #56513: data that is sharded already is sharded again",
    entry=45,
    on=OF_SHARES,
    expects=shows("data order"),
    causes=("wrong-samples",),
)
def sharded_twice(job: Job) -> Seams:
    """Each rank trains its share of its share."""
    return Seams(samples=lambda _step, samples, _micro_batch: plan.shard(samples, job.rank, job.world_size))


@bug(
    "masks-alike",
    report="InternLM PR #405, slapo #21: ranks of one seed drop the same activations of different samples",
    entry=37,
    on=OF_SHARES,
    expects=shows("loss"),
    needs={"dropout": 0.25},
    causes=("dropout-masks",),
)
def masks_alike(job: Job) -> Seams:
    """Every rank draws the masks of its samples from their places in its share, so that all ranks draw alike."""
    sites = models.dropout_sites(models.layers(job.workload))
    seed, first = job.workload.seed, np.arange(job.workload.check.global_batch)

    def alike(step: Step, batch: Batch) -> Batch:
        own = first[: len(batch.samples)]
        masks = (draws.keep_mask(seed, step.number, site.name, own, site.shape, site.rate) for site in sites)
        return dataclasses.replace(batch, masks=tuple(masks))

    return Seams(batch=alike)


@bug(
    "masks-apart",
    report="tt-metal #55947, DTensor #146190: ranks that share a layer out draw masks of their own",
    entry=37,
    on=("torch-tp",),
    expects=shows("loss"),
    needs={"dropout": 0.25},
    causes=("dropout-masks",),
)
def masks_apart(job: Job) -> Seams:
    """The last rank drops other activations than the others, of the same samples."""
    sites = models.dropout_sites(models.layers(job.workload))

    def apart(step: Step, batch: Batch) -> Batch:
        masks = (
            draws.keep_mask(job.workload.seed + 1, step.number, site.name, batch.samples, site.shape, site.rate)
            for site in sites
        )
        return dataclasses.replace(batch, masks=tuple(masks))

    return Seams(batch=apart) if job.rank == job.world_size - 1 else Seams()


@bug(
    "augmentation-alike",
    report="transformers #37932: all ranks draw their augmentation from one seed",
    entry=45,
    on=OF_SHARES,
    expects=shows("loss"),
    needs={"augment": "shift"},
    causes=("augmentation-shared",),
)
def augmentation_alike(job: Job) -> Seams:
    """Every rank shifts its images by what it draws for their places in its share."""
    data = datasets.load(job.workload, cache=job.cache, data_root=job.data_root)

    def alike(step: Step, batch: Batch) -> Batch:
        places = np.arange(len(batch.samples))
        moved = shifted(data.images[batch.samples], draws.shifts(job.workload.seed, step.number, places, REACH))
        return dataclasses.replace(batch, images=moved.astype(batch.images.dtype, copy=False))

    return Seams(batch=alike)
