"""Bugs as data: where each strikes a training, where it was reported, on what it can act, and where it must show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from harness.datasets.batches import Batch
from harness.errors import SpecError
from harness.plan import Indices, Step
from harness.record import Rung
from harness.registry import Registry, where
from harness.spec import Fault, Job, Workload

# Framework objects (modules, optimizers, parameters by name) are opaque here: faults are known without any framework.
Opaque = Any


def _same_samples(_step: Step, samples: Indices, _micro: Indices) -> Indices:
    return samples


def _same_batch(_step: Step, batch: Batch) -> Batch:
    return batch


def _same_scale(_step: Step, _num_local: int, scale: float) -> float:
    return scale


def _same_module(module: Opaque, _model: Opaque) -> Opaque:
    return module


def _same_last(_step: Step, _micro_batch: int, last: bool) -> bool:
    return last


def _just_reduce(_step: int, reduce: Callable[[], None]) -> None:
    reduce()


def _just_clip(_step: int, _parameters: Opaque, clip: Callable[[], None]) -> None:
    clip()


def _same_held_out(own: slice, _num_samples: int) -> slice:
    return own


def _nothing(*_args: Opaque) -> None:
    """Leave everything as it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seams:
    """Where a fault strikes; the defaults change nothing. Steps are counted from 0.

    Attributes:
        samples: (step, this rank's samples, the whole micro-batch) -> the samples trained instead.
        batch: (step, the numbers of this rank's samples) -> the images, labels and masks trained instead.
        loss_scale: (step, number of local samples, factor on the local sum of losses) -> the factor used instead.
        module: (wrapped module, model) -> the module trained instead; may change the model's weights or settings.
        weights: (initial weights by name) -> None, when all ranks should have the same; may change them in place.
        optimizer: (optimizer) -> None, before training; may change its settings.
        loaded: (model, optimizer) -> None, after a checkpoint was loaded.
        begin: (step number) -> None, when a step begins.
        last: (step, number of the micro-batch from 0, whether it is the last) -> whether gradients are reduced with it.
        local_gradients: (step number, parameters by name) -> None, after backward.
        synchronise: (step number, what completes the gradients) -> None; may leave it out.
        gradients: (step number, parameters by name) -> None, after synchronisation, before they are recorded and
            clipped.
        clip: (step number, parameters by name, what clips the gradients) -> None; may clip otherwise.
        clipped: (step number, parameters by name) -> None, after clipping.
        before_update: (step number, optimizer) -> None, just before the update.
        updated: (step number, model, optimizer) -> None, just after the update.
        held_out: (this rank's held-out samples, how many there are) -> the samples it evaluates instead.
    """

    samples: Callable[[Step, Indices, Indices], Indices] = _same_samples
    batch: Callable[[Step, Batch], Batch] = _same_batch
    loss_scale: Callable[[Step, int, float], float] = _same_scale
    module: Callable[[Opaque, Opaque], Opaque] = _same_module
    weights: Callable[[Mapping[str, Opaque]], None] = _nothing
    optimizer: Callable[[Opaque], None] = _nothing
    loaded: Callable[[Opaque, Opaque], None] = _nothing
    begin: Callable[[int], None] = _nothing
    last: Callable[[Step, int, bool], bool] = _same_last
    local_gradients: Callable[[int, Opaque], None] = _nothing
    synchronise: Callable[[int, Callable[[], None]], None] = _just_reduce
    gradients: Callable[[int, Opaque], None] = _nothing
    clip: Callable[[int, Opaque, Callable[[], None]], None] = _just_clip
    clipped: Callable[[int, Opaque], None] = _nothing
    before_update: Callable[[int, Opaque], None] = _nothing
    updated: Callable[[int, Opaque, Opaque], None] = _nothing
    held_out: Callable[[slice, int], slice] = _same_held_out


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """Where a fault is injected: everything that decides whether it acts, when, and what shows it."""

    workload: Workload
    strategy: str
    world_size: int
    settings: Mapping[str, float | int | str] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """The strategy's name without its options."""
        return self.strategy.partition("+")[0]

    @property
    def last_rank(self) -> int:
        """The rank on which faults of one rank strike unless their settings say otherwise."""
        return self.world_size - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """Where a fault must show first.

    ``rungs``, ``ranks`` and ``tensors`` each hold what may be named; empty where anything may. ``step`` is that of the
    first effect (-1: the initial weights). ``failure`` holds words of the error where ranks die instead.
    """

    rungs: tuple[Rung, ...] = ()
    step: int = 0
    ranks: tuple[int, ...] = ()
    tensors: tuple[str, ...] = ()
    failure: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bug:
    """A class of real bugs.

    Attributes:
        name: what ``Fault.name`` says.
        report: a real occurrence.
        summary: one sentence.
        where: where it is declared, for a human.
        seams: how it strikes a job.
        entry: the number of its class in the catalogue of docs/faults.md.
        on: the strategies that can express it, with options where it takes these.
        needs: settings that a workload must have for it to act, by field of Workload.
        partial: settings that let only a part of it strike, each by name: ``{"one tensor": {"tensor": "last"}}``.
        causes: the names of the diagnoses that are right; more than one where nothing observable tells them apart.
        expects: where it must show first at a site.
        harmless: why it changes nothing at a site, or None.
    """

    name: str
    report: str
    summary: str
    where: str
    seams: Callable[[Job], Seams]
    entry: int
    on: tuple[str, ...]
    expects: Callable[[Site], Expected]
    needs: Mapping[str, Any] = field(default_factory=dict)
    partial: Mapping[str, Mapping[str, float | int | str]] = field(default_factory=dict)
    causes: tuple[str, ...] = ()
    harmless: Callable[[Site], str | None] = lambda _site: None


class Settings(TypedDict, total=False):
    """The settings of a bug that have a default; see Bug."""

    needs: Mapping[str, Any]
    partial: Mapping[str, Mapping[str, float | int | str]]
    causes: tuple[str, ...]
    harmless: Callable[[Site], str | None]


_registry: Registry[Bug] = Registry("fault", "harness.faults", by_address=False)


def bug(
    name: str,
    *,
    report: str,
    entry: int,
    on: tuple[str, ...],
    expects: Callable[[Site], Expected],
    **settings: Unpack[Settings],
) -> Callable[[Callable[[Job], Seams]], Callable[[Job], Seams]]:
    """Register the decorated ``seams(job) -> Seams`` as fault ``name``; see Bug for the settings."""

    def register(seams: Callable[[Job], Seams]) -> Callable[[Job], Seams]:
        summary = (seams.__doc__ or "").strip().split("\n")[0]
        declared = Bug(
            name=name,
            report=report,
            summary=summary,
            where=where(seams),
            seams=seams,
            entry=entry,
            on=on,
            expects=expects,
            **settings,
        )
        _registry.register(name, declared, seams)
        return seams

    return register


def bugs() -> dict[str, Bug]:
    """Return every fault by name."""
    return _registry.all()


def get(name: str) -> Bug:
    """Return fault ``name``; raise UnknownNameError, which offers the nearest names."""
    return _registry.get(name)


def refusal(fault: Fault, site: Site) -> str | None:
    """Return why ``fault`` cannot strike at ``site``, whose settings are its own, or changes nothing there."""
    declared = get(fault.name)
    if not {site.base, site.strategy} & {*declared.on}:
        return f"{site.base} cannot express it"
    return declared.harmless(site)


def expected(fault: Fault, site: Site) -> Expected:
    """Return where ``fault`` must show first at ``site``.

    Raises:
        SpecError: it cannot strike there, or changes nothing there.
    """
    why = refusal(fault, site)
    if why:
        raise SpecError(f"expected fault {fault.name!r} to change something on {site.strategy} but it cannot: {why}")
    return get(fault.name).expects(site)


def seams_of(job: Job) -> Seams:
    """Return where the job's fault strikes; without one, nowhere."""
    return Seams() if job.fault is None else get(job.fault.name).seams(job)
