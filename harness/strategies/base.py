"""Declaring a strategy: one decorator in the file that defines it; no list to edit."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypedDict, Unpack, get_args

from harness.errors import SpecError, UnknownNameError
from harness.features import FEATURES
from harness.record import LADDER, Rung, Trace
from harness.registry import Registry, where
from harness.resolve import address
from harness.spec import BatchNorm, Device, DType, Job, Split, Workload
from harness.strategies.options import Chosen, Option, named, parse, written
from harness.strategies.standalone import Standalone

Train = Callable[[Job], tuple[Trace, ...]]
Equality = Literal["exact", "statistical"]
# Raises SpecError where a workload cannot be trained on so many ranks with these options.
Check = Callable[[Workload, int, Chosen], None]
# From world size and options to the number of groups of samples that are processed apart from each other.
Groups = Callable[[int, Chosen], int]
Processes = Literal["per-rank", "one"]
Reuse = Literal["process-per-case", "group-per-case", "init-once"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Strategy:
    """A way to spread one training over ranks.

    Attributes:
        name: what users type and reports show.
        function: where a rank finds ``train``; ``where`` is the same for a human.
        summary: one line for ``harness list``.
        framework: the family whose zygote forks its ranks and whose marker its cases carry.
        requires: packages that must be installed.
        backends: the communication library per device; a device that is absent is not supported.
        reference_of: the serial strategy it must equal; None marks a serial one.
        unsupported: why a device is not supported.
        launcher: what prepares the environment of its ranks.
        processes: a process per rank, or one whose replicas are threads or logical devices.
        world_sizes: what is worth running.
        batchnorm: whose statistics a batch norm sees, so that the reference can emulate it.
        split: how a batch is cut.
        groups: into how many pieces a batch is cut; one a rank unless it says otherwise.
        layer_parts: into how many parts the sums inside a layer are cut; a rerun of the reference cuts them, too.
        equality: ``exact`` up to rounding, or ``statistical`` where the library is not meant to compute the same.
        dtypes: what its engine can train in; equality is judged in the workload's dtype where that is among them.
        gradients: where the gradients before clipping are read, for people.
        options: what users may choose in its name, see ``harness.strategies.options``.
        variants: choices that suites try, ``"key=value+key=value"``, each with the workloads to try it on (none: the
            smoke workloads).
        everyday: the workloads of the quick scale besides the smoke ones; None for every one of the suite.
        slow: its cases take seconds; beyond the smoke workloads two ranks do at the full scale, too.
        timed: whether the quick scale times it, too.
        whole: whether a rank does what a serial run does, on its share of the batch; not where ranks share out the
            layers or the loading of data, or where one hands out the work of all.
        limits: what the library cannot do, by feature (``"tied-weights"``) or by features that do not go together
            (``"batch-norm+uneven-batch"``), with the reason.
        findings: where the library is known to compute something else than serial, written like ``limits`` (``"*"``:
            everywhere), each with the rung where that shows first and a sentence on it (``"loss: ..."``): an expected
            difference.
        check: refuses, before any rank starts, what cannot be trained.
        lacks: tells why this machine cannot run it although its packages are installed, or None; called often.
        markers: further pytest markers of its cases.
        not_shown: rungs that its engine cannot show, each with the reason.
        preload: modules that a first case would import lazily; its zygote imports them once.
        reuse: how long a rank process lives.
        like: the strategy whose faults can be injected into this one, too; itself unless it says otherwise.
        repeats: whether its processes can train again from the start and compute the same: then mutants are run.
        standalone: how plain code uses it with these options, so that a script can show a difference without Lockstep.
    """

    name: str
    function: str
    where: str
    summary: str
    framework: str
    requires: tuple[str, ...]
    backends: dict[Device, str]
    reference_of: str | None
    unsupported: dict[Device, str] = field(default_factory=dict)
    launcher: str = "local"
    processes: Processes = "per-rank"
    world_sizes: tuple[int, ...] = (2,)
    batchnorm: BatchNorm = "per-shard"
    split: Split = "balanced"
    groups: Groups = lambda world_size, _options: world_size
    layer_parts: Groups = lambda _world_size, _options: 1
    equality: Equality = "exact"
    dtypes: tuple[DType, ...] = ("float64", "float32")
    gradients: str = ".grad after backward"
    options: dict[str, Option] = field(default_factory=dict)
    variants: dict[str, tuple[str, ...]] = field(default_factory=dict)
    everyday: tuple[str, ...] | None = None
    slow: bool = False
    timed: bool = True
    whole: bool = True
    limits: dict[str, str] = field(default_factory=dict)
    findings: dict[str, str] = field(default_factory=dict)
    check: Check | None = None
    lacks: Callable[[], str | None] | None = None
    chosen: Chosen = field(default_factory=dict)
    markers: tuple[str, ...] = ()
    not_shown: dict[Rung, str] = field(default_factory=dict)
    preload: tuple[str, ...] = ()
    reuse: Reuse = "process-per-case"
    like: str = ""
    repeats: bool = False
    standalone: Callable[[Chosen], Standalone] | None = None

    def __post_init__(self) -> None:
        allowed: tuple[tuple[str, Iterable[object], Iterable[object]], ...] = (
            ("backends", self.backends, get_args(Device)),
            ("unsupported", self.unsupported, get_args(Device)),
            ("not_shown", self.not_shown, LADDER),
            ("batchnorm", [self.batchnorm], get_args(BatchNorm)),
            ("split", [self.split], get_args(Split)),
            ("processes", [self.processes], get_args(Processes)),
            ("reuse", [self.reuse], get_args(Reuse)),
            ("equality", [self.equality], get_args(Equality)),
            ("dtypes", self.dtypes, get_args(DType)),
            ("limits", [feature for key in self.limits for feature in key.split("+")], FEATURES),
            ("findings", [feature for key in self.findings for feature in key.split("+")], {*FEATURES, "*"}),
            ("rungs of findings", [what.partition(": ")[0] for what in self.findings.values()], LADDER),
        )
        for name, given, known in allowed:
            unknown = [value for value in given if value not in known]
            if unknown:
                raise SpecError(
                    f"strategy {self.name!r} ({self.where}): expected {name} among {', '.join(map(str, known))} "
                    f"but got {', '.join(map(repr, unknown))}"
                )
        if not self.world_sizes or any(not isinstance(size, int) or size < 1 for size in self.world_sizes):
            raise SpecError(
                f"strategy {self.name!r} ({self.where}): expected world_sizes to hold at least one number of ranks, "
                f"each >= 1, but got {self.world_sizes!r}"
            )

    @property
    def serial(self) -> bool:
        """Whether this is a reference rather than a parallel strategy."""
        return self.reference_of is None

    @property
    def comparable(self) -> bool:
        """Whether the parts of a rank's time can be held against those of a serial run at the per-rank batch."""
        return self.whole and self.processes == "per-rank"

    def missing(self) -> str | None:
        """Return why this machine cannot run the strategy, or None."""
        absent = [package for package in self.requires if not _installed(package)]
        if absent:
            return f"needs {', '.join(absent)}, which is not installed"
        return self.lacks() if self.lacks else None


class Settings(TypedDict, total=False):
    """The settings of a strategy that have a default; see Strategy."""

    unsupported: dict[Device, str]
    launcher: str
    processes: Processes
    world_sizes: tuple[int, ...]
    batchnorm: BatchNorm
    split: Split
    groups: Groups
    layer_parts: Groups
    equality: Equality
    dtypes: tuple[DType, ...]
    gradients: str
    options: dict[str, Option]
    variants: dict[str, tuple[str, ...]]
    everyday: tuple[str, ...] | None
    slow: bool
    timed: bool
    whole: bool
    limits: dict[str, str]
    findings: dict[str, str]
    check: Check
    lacks: Callable[[], str | None]
    markers: tuple[str, ...]
    not_shown: dict[Rung, str]
    preload: tuple[str, ...]
    reuse: Reuse
    like: str
    repeats: bool
    standalone: Callable[[Chosen], Standalone]


_registry: Registry[Strategy] = Registry(
    "strategy", "harness.strategies", entry_points="harness.strategies", by_address=False
)


def strategy(
    name: str,
    *,
    framework: str,
    requires: Iterable[str],
    backends: dict[Device, str],
    reference_of: str | None,
    **settings: Unpack[Settings],
) -> Callable[[Train], Train]:
    """Register the decorated ``train(job) -> traces`` as strategy ``name``; see Strategy for the settings.

    Raises:
        SpecError: the name holds a ``/``, which separates the parts of a case's name, or a ``+``, which begins an
            option; or a variant chooses what no option allows.
        DuplicateNameError: another file declares the name; both are named.
    """
    if "/" in name or "+" in name or not name:
        raise SpecError(f"expected a strategy name without '/' and '+' but got {name!r}")

    def register(train: Train) -> Train:
        declared = Strategy(
            name=name,
            function=address(train),
            where=where(train),
            summary=(_document(train) or train.__doc__ or "").strip().split("\n")[0],
            framework=framework,
            requires=tuple(requires),
            backends=backends,
            reference_of=reference_of,
            chosen={key: option.default for key, option in settings.get("options", {}).items()},
            **settings,
        )
        for variant in declared.variants:
            _choose(declared, f"{name}+{variant}")
        _registry.register(name, declared, train)
        return train

    return register


def declare(declared: Strategy, definition: Callable[..., object]) -> Strategy:
    """Register a strategy that ``definition``, a function of any form, stands for.

    Raises:
        DuplicateNameError: another function declares the name; both are named.
    """
    return _registry.register(declared.name, declared, definition)


def discover() -> None:
    """Import every strategy file of this package and of the entry-point group ``harness.strategies``.

    Raises:
        BrokenPluginError: a file does not import; it is told rather than left out, so that nothing disappears silently.
        DuplicateNameError: two files declare one name.
    """
    _registry.discover()


def strategies() -> dict[str, Strategy]:
    """Return every registered strategy by name."""
    return _registry.all()


def get(name: str) -> Strategy:
    """Return strategy ``name``, which may choose options: ``torchgpipe+chunks=4``.

    Raises:
        UnknownNameError: there is no such strategy or option; the nearest names are offered.
        SpecError: an option cannot have this value.
    """
    base, plus, _ = name.partition("+")
    declared = _registry.get(base)
    return _choose(declared, name) if plus else declared


def canonical(name: str) -> str:
    """Return the one name of what ``name`` chooses (``+chunks=4+static`` for ``+static=true+chunks=04``).

    A name of nothing is returned as it is, for whoever refuses it.
    """
    try:
        return get(name).name
    except (UnknownNameError, SpecError):
        return name


def variants(declared: Strategy) -> dict[str, Strategy]:
    """Return the variants of a strategy that suites try, by their words in ``declared.variants``."""
    return {variant: get(f"{declared.name}+{variant}") for variant in declared.variants}


def _choose(declared: Strategy, name: str) -> Strategy:
    """Return the strategy with the options that its name chooses, and with all that they change."""
    base, chosen = parse(name, declared.options)
    changes: dict[str, Any] = {}
    for key, option in declared.options.items():
        for setting, value in option.changes.get(written(chosen[key]), {}).items():
            before = changes.get(setting, getattr(declared, setting))
            changes[setting] = _merged(before, value) if isinstance(value, dict) else value
    return replace(declared, name=named(base, declared.options, chosen), chosen=chosen, **changes)


def _merged(before: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**before, **changed}.items() if value is not None}


def _document(train: Train) -> str | None:
    """Return the docstring of the file that declares a strategy."""
    return getattr(sys.modules.get(train.__module__), "__doc__", None)


@functools.cache
def _installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it; looked up once, as cases are many."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of "horovod.torch" not even "horovod" is there
        return False
