"""Bugs in the optimizer's update: scaled with the number of ranks, or robbed of its memory."""

from __future__ import annotations

from harness.faults.base import Opaque, Seams, bug
from harness.spec import Job


@bug("learning-rate-x-world", report="accelerate #2926, diffusers #3954: the rate scaled once per process")
def learning_rate_x_world(job: Job) -> Seams:
    """The learning rate is multiplied by the world size."""

    def scale(_step: int, optimizer: Opaque) -> None:
        for group in optimizer.param_groups:
            group["lr"] *= job.world_size

    return Seams(before_update=scale)


@bug("lost-momentum", report="KempnerForge PR #115, Fast-LLM #436: moments not restored")
def lost_momentum(job: Job) -> Seams:
    """The optimizer forgets its state before the third step."""
    del job

    def forget(step: int, optimizer: Opaque) -> None:
        if step == 2:
            optimizer.state.clear()

    return Seams(before_update=forget)


@bug("regulariser-x-world", report="keras #7178, PR #20609: the regulariser counted once per replica")
def regulariser_x_world(job: Job) -> Seams:
    """Weight decay is multiplied by the world size."""

    def scale(optimizer: Opaque) -> None:
        for group in optimizer.param_groups:
            group["weight_decay"] *= job.world_size

    return Seams(optimizer=scale)
