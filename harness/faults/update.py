"""Bugs in the optimizer's update: scaled with the number of ranks, or robbed of its memory."""

from __future__ import annotations

from harness import plan
from harness.faults.base import Expected, Opaque, Seams, Site, bug
from harness.faults.scope import DEEPSPEED, GRADIENTS, KERAS, ONE_PROCESS, first_step, shows
from harness.record import Rung
from harness.spec import Job, Schedule, Workload


def has_state(workload: Workload) -> bool:
    """Whether the optimizer remembers anything from step to step."""
    return workload.optimizer.name != "sgd" or workload.optimizer.momentum > 0


def state_of(optimizer: Opaque) -> Opaque:
    """Return what an optimizer keeps for each parameter; ZeroRedundancyOptimizer has it in one of its own."""
    holder: Opaque = getattr(optimizer, "optim", optimizer)
    return holder.state


def _first_moved(site: Site) -> int:
    step = first_step(site.workload, lambda step: step.learning_rate > 0)
    assert step is not None, "a training without a learning rate moves nothing"
    return step


def _at_first_rate(site: Site) -> Expected:
    return Expected(rungs=("parameters",), step=_first_moved(site))


@bug(
    "learning-rate-x-world",
    report="accelerate #2926, diffusers #3954: the rate scaled once per process",
    entry=15,
    on=(*GRADIENTS, *ONE_PROCESS, *DEEPSPEED, *KERAS),
    expects=_at_first_rate,
    causes=("learning-rate-scaled",),
)
def learning_rate_x_world(job: Job) -> Seams:
    """The learning rate is multiplied by the world size."""

    def scale(_step: int, optimizer: Opaque) -> None:
        for group in optimizer.param_groups:
            group["lr"] *= job.world_size

    return Seams(before_update=scale)


@bug(
    "lost-momentum",
    report="KempnerForge PR #115, Fast-LLM #436: moments not restored",
    entry=39,
    on=(*GRADIENTS, *ONE_PROCESS, *KERAS),
    expects=shows("optimizer state", step=2),
    harmless=lambda site: None if has_state(site.workload) else "the optimizer keeps no state",
    causes=("optimizer-state-lost",),
)
def lost_momentum(job: Job) -> Seams:
    """The optimizer forgets its state before the third step."""
    del job

    def forget(step: int, optimizer: Opaque) -> None:
        if step == 2:
            state_of(optimizer).clear()

    return Seams(before_update=forget)


def _in_the_update(site: Site) -> Expected:
    optimizer = site.workload.optimizer
    decoupled = optimizer.name == "adamw"
    rungs: tuple[Rung, ...] = ("parameters",) if decoupled or not has_state(site.workload) else ("optimizer state",)
    return Expected(rungs=rungs, step=_first_moved(site) if decoupled else 0)


@bug(
    "regulariser-x-world",
    report="keras #7178, PR #20609: the regulariser counted once per replica",
    entry=7,
    on=(*GRADIENTS, *ONE_PROCESS, *DEEPSPEED, *KERAS),
    expects=_in_the_update,
    harmless=lambda site: None if site.workload.optimizer.weight_decay else "there is no weight decay",
    causes=("regulariser-scaled",),
)
def regulariser_x_world(job: Job) -> Seams:
    """Weight decay is multiplied by the world size."""

    def scale(optimizer: Opaque) -> None:
        for group in optimizer.param_groups:
            group["weight_decay"] *= job.world_size

    return Seams(optimizer=scale)


def _in_second_epoch(site: Site) -> Expected:
    step = first_step(site.workload, lambda step: step.epoch == 1)
    assert step is not None, "the check ends in its second epoch"
    return Expected(rungs=("parameters",), step=step)


@bug(
    "scheduler-x-world",
    report="accelerate #2926: the scheduler is stepped once per process",
    entry=15,
    on=(*GRADIENTS, *ONE_PROCESS),
    expects=_in_second_epoch,
    needs={"schedule": Schedule(gamma=0.5)},
    causes=("rate-schedule",),
)
def scheduler_x_world(job: Job) -> Seams:
    """The learning rate falls with the number of epochs times the world size."""
    epochs = {step.number: step.epoch for step in plan.check_steps(job.workload)}

    def hurry(step: int, optimizer: Opaque) -> None:
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate(job.workload, epochs[step] * job.world_size)

    return Seams(before_update=hurry)
