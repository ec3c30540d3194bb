"""Which cases there are: workloads x strategies x world sizes x devices, with their markers and what they lack."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from harness import support, workloads
from harness.errors import SpecError, UnknownNameError
from harness.measure import machine
from harness.spec import Case, Device, Workload
from harness.strategies import base as strategies
from harness.strategies.base import Strategy
from harness.workloads import Declared

Suite = Literal["conformance", "performance"]
DEVICES: tuple[Device, ...] = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What the user asked for; an empty field asks for everything that the scale offers.

    ``scale`` quick runs two ranks of every case and more ranks of the smoke cases only; full runs every world size, but
    for slow strategies and variants.
    """

    strategies: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    world_sizes: tuple[int, ...] = ()
    devices: tuple[Device, ...] = ()
    scale: Literal["quick", "full"] = "quick"
    data_root: str | None = None
    oversubscribe: bool = False

    @property
    def asked(self) -> bool:
        """Whether the user named anything."""
        return bool(self.strategies or self.workloads or self.world_sizes or self.devices)

    def allows(self, case: Case) -> bool:
        """Whether what the user asked for includes ``case``."""
        wanted: tuple[tuple[object, tuple[object, ...]], ...] = (
            (case.strategy, tuple(map(strategies.canonical, self.strategies))),
            (case.workload, self.workloads),
            (case.world_size, self.world_sizes),
            (case.device, self.devices),
        )
        return all(not names or name in names for name, names in wanted)

    def validate(self, marked: Iterable[Case] = ()) -> None:
        """Raise UnknownNameError where a strategy or workload is neither registered nor one of ``marked``."""
        described = {case.workload for case in marked}
        for name in self.strategies:
            strategies.get(name)
        known = {*workloads.workloads(), *described}
        for name in self.workloads:
            if name not in known:
                raise UnknownNameError("workload", name, known)


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A case, the workload and strategy behind its names, its markers, and why it cannot run here (None: it can)."""

    case: Case
    workload: Workload
    strategy: Strategy
    markers: tuple[str, ...]
    lacks: str | None


def offers(selection: Selection, suite: Suite) -> Iterator[Offer]:
    """Yield the cases of a suite, each workload's strategies side by side."""
    for declared in workloads.workloads().values():
        wanted = declared.workload.name in selection.workloads
        if not (wanted or (not selection.workloads and suite in declared.suites)):
            continue
        smoke = "smoke" in declared.suites
        for strategy in _strategies(declared, selection, suite, smoke=smoke, wanted=wanted):
            for case in _sizes_and_devices(declared.workload, strategy, selection, smoke=smoke or wanted):
                refused = support.refusal(declared.workload, strategy, case.world_size)
                # What nobody asked for and no machine can run is told by the matrix of promises.
                if refused is None or wanted or selection.strategies:
                    yield offer(
                        case,
                        declared.workload,
                        strategy,
                        selection,
                        needs_data=declared.needs_data,
                        smoke=smoke,
                        refused=refused,
                    )


def _strategies(
    declared: Declared, selection: Selection, suite: Suite, *, smoke: bool, wanted: bool
) -> Iterator[Strategy]:
    """Yield the strategies, and their variants, that are worth running on a workload."""
    if selection.strategies:
        yield from _named(selection.strategies)
        return
    name, quick = declared.workload.name, selection.scale == "quick" and not wanted
    for strategy in strategies.strategies().values():
        if strategy.serial:
            continue
        chosen = strategy.timed if suite == "performance" else strategy.everyday is None or name in strategy.everyday
        if not quick or chosen or (smoke and suite == "conformance"):
            yield strategy
        for words, variant in strategies.variants(strategy).items():
            own = strategy.variants[words]
            if suite == "conformance" and (name in own if own else smoke):
                yield variant


def _named(names: Iterable[str]) -> Iterator[Strategy]:
    """Yield the parallel strategies of these names; what nobody registers is told when all tests are collected."""
    found = []
    for name in names:
        with suppress(UnknownNameError, SpecError):
            found.append(strategies.get(name))
    yield from (strategy for strategy in sorted(found, key=lambda strategy: strategy.name) if not strategy.serial)


def _sizes_and_devices(workload: Workload, strategy: Strategy, selection: Selection, *, smoke: bool) -> Iterator[Case]:
    sizes: Iterable[int] = selection.world_sizes or strategy.world_sizes
    variant = "+" in strategy.name and not selection.strategies
    # Beyond the smoke workloads, what is slow and every variant run with two ranks at the full scale, too.
    few = selection.scale == "quick" or variant or strategy.slow
    if not selection.world_sizes and few and (variant or not smoke):
        sizes = [min(sizes, key=lambda size: abs(size - 2))]
    elif not selection.world_sizes and selection.scale == "quick":
        # One rank proves nothing about parallelism: that it runs at all is for the full scale.
        sizes = [size for size in sizes if size > 1] or sizes
    for device in selection.devices or DEVICES:
        if device not in strategy.backends and device not in strategy.unsupported:
            continue
        told = list(sizes)
        if _hopeless(strategy, device) and not selection.devices:
            # What this machine can never run is told on the smoke workload, not in every combination.
            told = (told if device in strategy.backends else told[:1] if device == "cpu" else []) if smoke else []
        for size in told:
            yield Case(workload=workload.name, strategy=strategy.name, world_size=size, device=device)


def _hopeless(strategy: Strategy, device: Device) -> bool:
    return device not in strategy.backends or (device == "cuda" and not machine.cuda_devices())


def offer(
    case: Case,
    workload: Workload,
    strategy: Strategy,
    selection: Selection,
    *,
    refused: str | None,
    needs_data: bool = False,
    smoke: bool = False,
) -> Offer:
    """Return the case with its markers and what it lacks on this machine, if it was not ``refused`` anyway."""
    markers = [strategy.framework, *strategy.markers]
    markers.append("cpu" if case.device == "cpu" else f"gpu{num_gpus(case, selection)}")
    plain = "+" not in strategy.name and strategy.equality == "exact"
    if smoke and plain and case.device == "cpu" and case.world_size == 2:
        markers.append("smoke")
    return Offer(
        case=case,
        workload=workload,
        strategy=strategy,
        markers=tuple(dict.fromkeys(markers)),
        lacks=f"not supported: {refused}" if refused else _lacks(case, strategy, selection, needs_data=needs_data),
    )


def share_gpu(case: Case, selection: Selection) -> bool:
    """Whether several ranks share one GPU: good enough for equality, never for timing."""
    return selection.oversubscribe and case.device == "cuda" and case.world_size > 1


def num_gpus(case: Case, selection: Selection) -> int:
    """Return how many physical GPUs the case uses."""
    if case.device == "cpu":
        return 0
    return 1 if share_gpu(case, selection) else case.world_size


def _lacks(case: Case, strategy: Strategy, selection: Selection, *, needs_data: bool) -> str | None:
    if case.device not in strategy.backends:
        return strategy.unsupported.get(case.device, f"does not run on {case.device}")
    missing = strategy.missing()
    if missing:
        return missing
    if needs_data and not selection.data_root:
        return f"workload {case.workload} reads data files; name their folder with --ls-data-root"
    return too_few_gpus(num_gpus(case, selection))


def too_few_gpus(wanted: int) -> str | None:
    """Return in words that fewer than ``wanted`` CUDA devices are visible, or None."""
    found = machine.cuda_devices() if wanted else 0
    if wanted <= found:
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set") or "empty"
    return f"needs {wanted} CUDA device{'s' * (wanted > 1)}, found {found} (CUDA_VISIBLE_DEVICES: {visible})"
