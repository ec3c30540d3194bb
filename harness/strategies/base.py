"""Declaring a strategy: one decorator in the file that defines it; no list to edit."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from harness.errors import BrokenPluginError, DuplicateNameError, UnknownNameError
from harness.record import Rung, Trace
from harness.spec import BatchNorm, Device, Job, Split

Train = Callable[[Job], tuple[Trace, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Strategy:
    """A way to spread one training over ranks.

    ``requires`` are importable packages. ``backends`` names the communication library per device; a device that is
    absent is not
    supported, and ``unsupported`` says why. ``processes`` is ``"per-rank"`` or ``"one"`` (replicas on threads or
    logical devices). ``reference_of`` is the name of the serial strategy it must equal; None marks a serial one.
    ``batchnorm`` and ``split`` say whose statistics a batch norm sees and how a batch is cut, so that the reference
    can emulate it. ``launcher`` names what prepares the environment of its ranks.
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
    processes: Literal["per-rank", "one"] = "per-rank"
    world_sizes: tuple[int, ...] = (2,)
    batchnorm: BatchNorm = "per-shard"
    split: Split = "balanced"
    markers: tuple[str, ...] = ()
    not_shown: dict[Rung, str] = field(default_factory=dict)
    reuse: Literal["process-per-case", "group-per-case", "init-once"] = "process-per-case"

    @property
    def serial(self) -> bool:
        """Whether this is a reference rather than a parallel strategy."""
        return self.reference_of is None

    def missing(self) -> str | None:
        """Return why this machine cannot run the strategy, or None."""
        absent = [package for package in self.requires if importlib.util.find_spec(package) is None]
        return f"needs {', '.join(absent)}, which is not installed" if absent else None


_registry: dict[str, Strategy] = {}


def strategy(
    name: str,
    *,
    framework: str,
    requires: Iterable[str],
    backends: dict[Device, str],
    reference_of: str | None,
    unsupported: dict[Device, str] | None = None,
    launcher: str = "local",
    processes: Literal["per-rank", "one"] = "per-rank",
    world_sizes: tuple[int, ...] = (2,),
    batchnorm: BatchNorm = "per-shard",
    split: Split = "balanced",
    markers: tuple[str, ...] = (),
    not_shown: dict[Rung, str] | None = None,
    reuse: Literal["process-per-case", "group-per-case", "init-once"] = "process-per-case",
) -> Callable[[Train], Train]:
    """Register the decorated ``train(job) -> traces`` as strategy ``name``; see Strategy for the settings."""

    def register(train: Train) -> Train:
        declared = Strategy(
            name=name,
            function=f"{train.__module__}:{train.__qualname__}",
            where=f"{train.__code__.co_filename}:{train.__code__.co_firstlineno}",
            summary=(train.__doc__ or importlib.import_module(train.__module__).__doc__ or "").strip().split("\n")[0],
            framework=framework,
            requires=tuple(requires),
            backends=backends,
            reference_of=reference_of,
            unsupported=unsupported or {},
            launcher=launcher,
            processes=processes,
            world_sizes=world_sizes,
            batchnorm=batchnorm,
            split=split,
            markers=markers,
            not_shown=not_shown or {},
            reuse=reuse,
        )
        known = _registry.get(name)
        if known is not None and known.where != declared.where:
            raise DuplicateNameError("strategy", name, known.where, declared.where)
        _registry[name] = declared
        return train

    return register


def discover() -> None:
    """Import every strategy file of this package and of the entry-point group ``harness.strategies``.

    Raises:
        BrokenPluginError: a file does not import; it is told rather than left out, so that nothing disappears silently.
    """
    package = importlib.import_module("harness.strategies")
    names = [
        f"harness.strategies.{info.name}" for info in pkgutil.iter_modules(package.__path__) if info.name != "base"
    ]
    names += [entry.value for entry in importlib.metadata.entry_points(group="harness.strategies")]
    for name in names:
        try:
            importlib.import_module(name)
        except (DuplicateNameError, BrokenPluginError):
            raise
        except Exception as error:
            raise BrokenPluginError(
                f"strategy file {name} does not import: {type(error).__name__}: {error}; mend it or take it away"
            ) from error


def strategies() -> dict[str, Strategy]:
    """Return every registered strategy by name."""
    return dict(sorted(_registry.items()))


def get(name: str) -> Strategy:
    """Return strategy ``name``; raise UnknownNameError with the nearest names."""
    if name not in _registry:
        raise UnknownNameError("strategy", name, _registry)
    return _registry[name]
