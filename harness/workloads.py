"""Workloads by name: the ones that ship, and the user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from harness.errors import DuplicateNameError, SpecError
from harness.registry import Registry, where
from harness.spec import Value, Workload

Suite = Literal["smoke", "conformance", "performance"]
Describe = Callable[[], Workload]
# Where a workload is declared that only a command line describes.
COMMAND_LINE = "--ls-workload"


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """A registered workload: what it is, the suites that run it unasked, and the file that declares it."""

    workload: Workload
    suites: tuple[Suite, ...]
    where: str
    needs_data: bool


_registry: Registry[Declared] = Registry("workload", "harness.shipped", by_address=False)


def workload(*suites: Suite, needs_data: bool = False) -> Callable[[Describe], Describe]:
    """Register the workload that the decorated function returns.

    Args:
        suites: the suites that run it unasked; none means only when asked for by name.
        needs_data: it reads files below ``--ls-data-root``.

    Raises:
        DuplicateNameError: another function declares the name; both are named.
    """

    def register(describe: Describe) -> Describe:
        described = describe()
        declared = Declared(workload=described, suites=suites, where=where(describe), needs_data=needs_data)
        _registry.register(described.name, declared, describe)
        return describe

    return register


def workloads() -> dict[str, Declared]:
    """Return every registered workload by name."""
    return _registry.all()


def get(name: str) -> Workload:
    """Return workload ``name``; raise UnknownNameError with the nearest names."""
    return _registry.get(name).workload


def described(text: str) -> Workload:
    """Register the workload that a JSON object describes, and return it; what it leaves out has its default.

    Raises:
        SpecError: no JSON object, or not one that describes a workload.
        DuplicateNameError: another workload has its name.
    """
    try:
        found = msgspec.json.decode(text, type=Workload)
    except (msgspec.DecodeError, SpecError) as error:
        raise SpecError(
            f"expected a workload as a JSON object but {error}; for example "
            '{"name": "mine", "model": "mlp", "dataset": "digits"}'
        ) from error
    known = _registry.all().get(found.name)
    if known is None:
        _registry.register(
            found.name, Declared(workload=found, suites=(), where=COMMAND_LINE, needs_data=False), described
        )
    elif known.workload != found:
        raise DuplicateNameError("workload", found.name, known.where, COMMAND_LINE)
    return found


def written(workload: Workload) -> str:
    """Return how a command line names a workload: by its name, or as JSON where only a command line describes it."""
    known = _registry.all().get(workload.name)
    if known is not None and known.where != COMMAND_LINE:
        return workload.name
    return as_json(workload)


def as_json(workload: Workload) -> str:
    """Return the shortest JSON object that describes a workload: what has its default is left out."""
    return msgspec.json.encode(_spoken(workload)).decode()


def _spoken(value: Value) -> dict[str, object]:
    """Return a value's fields that differ from their defaults."""
    fields = {}
    for field in msgspec.structs.fields(type(value)):
        given = getattr(value, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if given != default:
            fields[field.name] = _spoken(given) if isinstance(given, Value) else given
    return fields
