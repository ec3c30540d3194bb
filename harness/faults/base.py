"""The seams of a training loop where a bug can be injected without touching any strategy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.plan import Indices, Step
from harness.registry import Registry, where
from harness.spec import Job

# Framework objects (modules, optimizers, lists of parameters) are opaque here: faults are known without any framework.
Opaque = Any


def _same_samples(_step: Step, samples: Indices, _micro: Indices) -> Indices:
    return samples


def _same_scale(_step: Step, _num_local: int, scale: float) -> float:
    return scale


def _same_module(module: Opaque, _model: Opaque) -> Opaque:
    return module


def _same_held_out(own: slice, _num_samples: int) -> slice:
    return own


def _nothing(*_args: Opaque) -> None:
    """Leave everything as it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seams:
    """Where a fault strikes; the defaults change nothing.

    Attributes:
        samples: (step, this rank's samples, the whole micro-batch) -> the samples trained instead.
        loss_scale: (step, number of local samples, factor on the local sum of losses) -> the factor used instead.
        module: (wrapped module, model) -> the module trained instead; may change the model's weights or settings.
        optimizer: (optimizer) -> None, before training; may change its settings.
        local_gradients: (step number, parameters) -> None, after backward.
        gradients: (step number, parameters) -> None, after synchronisation, before they are recorded and clipped.
        clipped: (step number, parameters) -> None, after clipping.
        before_update: (step number, optimizer) -> None, just before the update.
        held_out: (this rank's held-out samples, how many there are) -> the samples it evaluates instead.
    """

    samples: Callable[[Step, Indices, Indices], Indices] = _same_samples
    loss_scale: Callable[[Step, int, float], float] = _same_scale
    module: Callable[[Opaque, Opaque], Opaque] = _same_module
    optimizer: Callable[[Opaque], None] = _nothing
    local_gradients: Callable[[int, Opaque], None] = _nothing
    gradients: Callable[[int, Opaque], None] = _nothing
    clipped: Callable[[int, Opaque], None] = _nothing
    before_update: Callable[[int, Opaque], None] = _nothing
    held_out: Callable[[slice, int], slice] = _same_held_out


@dataclass(frozen=True, kw_only=True, slots=True)
class Bug:
    """A class of real bugs: its name, where it was reported, and how it strikes a job."""

    name: str
    report: str
    summary: str
    where: str
    seams: Callable[[Job], Seams]


_registry: Registry[Bug] = Registry("fault", "harness.faults", by_address=False)


def bug(name: str, *, report: str) -> Callable[[Callable[[Job], Seams]], Callable[[Job], Seams]]:
    """Register the decorated ``seams(job) -> Seams`` as fault ``name``; ``report`` cites a real occurrence."""

    def register(seams: Callable[[Job], Seams]) -> Callable[[Job], Seams]:
        summary = (seams.__doc__ or "").strip().split("\n")[0]
        declared = Bug(name=name, report=report, summary=summary, where=where(seams), seams=seams)
        _registry.register(name, declared, seams)
        return seams

    return register


def bugs() -> dict[str, Bug]:
    """Return every fault by name."""
    return _registry.all()


def seams_of(job: Job) -> Seams:
    """Return where the job's fault strikes; without one, nowhere."""
    return Seams() if job.fault is None else _registry.get(job.fault.name).seams(job)
