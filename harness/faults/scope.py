"""Partial faults: one tensor, one rank, some steps, one element; and the strategies by what they can express."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness import plan
from harness.errors import SpecError
from harness.faults.base import Expected, Opaque, Seams, Site
from harness.models import base as models
from harness.record import Rung
from harness.spec import Job, Workload

# Ranks with samples and a whole model of their own, whose gradients lie whole in ``.grad``.
REPLICAS = ("torch-ddp", "torch-zero1", "horovod-torch")
# Their gradients lie in pieces in ``.grad``.
SHARDED = ("torch-fsdp", "torch-hsdp")
# All samples on every rank, each with a part of the layers.
SPLIT = ("torch-tp", "torch-pp")
# Every PyTorch strategy in which ``.grad`` can be changed after the reduction on every rank.
GRADIENTS = (*REPLICAS, *SHARDED, *SPLIT, "torch-fsdp-tp", "torch-ddp-pp")
# One process that holds all replicas or stages.
ONE_PROCESS = ("torch-threads", "torchgpipe")
# ZeRO keeps complete gradients inside its engine, which hands them out in float32.
DEEPSPEED = ("deepspeed-zero0", "deepspeed-zero1", "deepspeed-zero2", "deepspeed-zero3")
# A process for each replica, and one process for all.
KERAS_PROCESSES = ("tf-multiworker", "horovod-keras")
KERAS = ("tf-mirrored", *KERAS_PROCESSES)
# Every strategy whose ranks are processes that train in step.
PROCESSES = (*GRADIENTS, *DEEPSPEED, *KERAS_PROCESSES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """What a fault strikes: everything, unless its settings say otherwise.

    ``tensor`` is a parameter's name, or ``first`` or ``last``; ``rank`` -1 is the last; ``first`` is the first step,
    after which every ``every``-th one is struck; ``element`` is the place in the flattened tensor on its rank.
    """

    tensor: str = ""
    rank: int | None = None
    first: int = 0
    every: int = 1
    element: int | None = None

    def at(self, step: int) -> bool:
        """Whether the step is struck."""
        return step >= self.first and (step - self.first) % self.every == 0

    def on(self, rank: int, world_size: int) -> bool:
        """Whether the rank is struck."""
        return self.rank is None or rank == self.rank % world_size

    def ranks(self, world_size: int) -> tuple[int, ...]:
        """Return the ranks that are struck; none in particular where all are."""
        return () if self.rank is None else (self.rank % world_size,)

    def names(self, workload: Workload) -> tuple[str, ...]:
        """Return the parameters that are struck; none in particular where all are."""
        if self.tensor in ("first", "last"):
            trained = trained_names(workload)
            return (trained[0 if self.tensor == "first" else -1],)
        return (self.tensor,) if self.tensor else ()


def scope(settings: Mapping[str, float | int | str], **usual: float | int | str) -> Scope:
    """Return the scope in a fault's settings; what they leave out is as ``usual``.

    Raises:
        SpecError: a setting is of no scope.
    """
    try:
        return Scope(**{**usual, **settings})  # type: ignore[arg-type]
    except TypeError as error:
        known = ", ".join(Scope.__slots__)
        raise SpecError(f"expected settings among {known} but got {', '.join(settings)}") from error


def trained_names(workload: Workload) -> tuple[str, ...]:
    """Return the trained parameters of a workload in model order."""
    names = models.parameters(models.layers(workload))
    return tuple(name for name in names if name.rpartition(".")[0] not in workload.frozen)


def scope_of(job: Job, **usual: float | int | str) -> Scope:
    """Return the scope of a job's fault."""
    assert job.fault is not None
    return scope(job.fault.settings, **usual)


def on_gradients(job: Job, change: Callable[[Opaque], object], **usual: float | int | str) -> Seams:
    """Return the seams of a fault that changes complete gradients in place, as far as its scope goes.

    ``change`` must know both torch's tensors and numpy's arrays, as ``times`` does.
    """
    own = scope_of(job, **usual)
    names = own.names(job.workload)

    def strike(step: int, parameters: Opaque) -> None:
        if not own.at(step):
            return
        for name, parameter in parameters.items():
            if parameter.grad is not None and (not names or name in names):
                gradient = local(parameter.grad)
                if own.element is None:
                    change(gradient)
                # A rank may hold nothing of a tensor.
                elif math.prod(gradient.shape) > own.element:
                    change(gradient.reshape(-1)[own.element : own.element + 1])

    return Seams(gradients=strike) if own.on(job.rank, job.world_size) else Seams()


def times(factor: float) -> Callable[[Opaque], None]:
    """Return what multiplies a gradient in place."""

    def change(gradient: Opaque) -> None:
        gradient *= factor

    return change


def local(tensor: Opaque) -> Opaque:
    """Return this rank's piece of a tensor that may be spread over ranks."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def in_gradients(site: Site) -> Expected:
    """Expect a fault of ``on_gradients`` where its scope begins."""
    return begins("gradients before clipping")(site)


def begins(rung: Rung, **usual: float | int | str) -> Callable[[Site], Expected]:
    """Return the expectation of a fault that shows in ``rung`` where its scope begins."""

    def expect(site: Site) -> Expected:
        own = scope(site.settings, **usual)
        return Expected(
            rungs=(rung,), step=own.first, ranks=own.ranks(site.world_size), tensors=own.names(site.workload)
        )

    return expect


def shows(*rungs: Rung, step: int = 0, last_rank: bool = False) -> Callable[[Site], Expected]:
    """Return an expectation that is the same everywhere."""

    def expect(site: Site) -> Expected:
        return Expected(rungs=rungs, step=step, ranks=(site.last_rank,) if last_rank else ())

    return expect


def first_step(workload: Workload, holds: Callable[[plan.Step], bool]) -> int | None:
    """Return the first step of the workload's check for which ``holds``, or None."""
    return next((step.number for step in plan.check_steps(workload) if holds(step)), None)
