"""Things that are registered by name where they are defined: one decorator, one file, no list to edit."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Generic, TypeVar

from harness.errors import BrokenPluginError, DuplicateNameError, SpecError, UnknownNameError, UsageError
from harness.resolve import address, resolve

V = TypeVar("V")
Definition = Callable[..., object]


def where(function: Definition) -> str:
    """Return ``file:line`` of a function's definition."""
    plain = inspect.unwrap(function)
    if not isinstance(plain, FunctionType):
        raise SpecError(f"expected a plain function to register but got {function!r}; write it with def")
    return f"{plain.__code__.co_filename}:{plain.__code__.co_firstlineno}"


def imported(kind: str, location: str) -> Definition:
    """Return the function at ``"module:function"``.

    Raises:
        UsageError: there is no such module or function.
        BrokenPluginError: the module fails while it is imported.
    """
    try:
        function = resolve(location)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # a script may end the process that imports it
        raise BrokenPluginError(
            f"expected {kind} {location!r} to be an importable 'module:function' but got "
            f"{type(error).__name__}: {error}; mend the module or the name"
        ) from error
    where(function)  # refuses what is no plain function
    return function


@dataclass(frozen=True, slots=True)
class Entry(Generic[V]):
    """A registered value and the function that defines it."""

    value: V
    definition: Definition


class Registry(Generic[V]):
    """Values by name, each with the function that defines it; usually the value is that function.

    Args:
        kind: what the values are called in messages.
        package: holds the built-in ones, a file each, imported when first asked for.
        entry_points: the group in which installed distributions name modules that register more.
        by_address: whether ``get`` also takes ``"module:function"``, of a function nobody registered; only where
            values are functions.
    """

    def __init__(
        self, kind: str, package: str | None = None, *, entry_points: str | None = None, by_address: bool = True
    ) -> None:
        self.kind = kind
        self._package = package
        self._entry_points = entry_points
        self._by_address = by_address
        self._entries: dict[str, Entry[V]] = {}
        self._discovered = False

    def register(self, name: str, value: V, definition: Definition | None = None) -> V:
        """Add ``value`` under ``name``; ``definition`` is the function that defines it, unless it is one itself.

        Raises:
            DuplicateNameError: another definition has this name; the message gives both places.
            SpecError: not a plain function, or a name that looks like ``"module:function"``.
        """
        if ":" in name:
            raise SpecError(
                f"expected a {self.kind} name without ':' but got {name!r}; that form means module:function"
            )
        defined_by = definition if definition is not None else value
        if not callable(defined_by):
            raise SpecError(f"expected a plain function to register but got {value!r}; write it with def")
        place = where(defined_by)
        first = self._entries.get(name)
        if first is not None and where(first.definition) != place:
            raise DuplicateNameError(self.kind, name, where(first.definition), place)
        self._entries[name] = Entry(value, defined_by)
        return value

    def known(self) -> tuple[str, ...]:
        """Return every registered name, sorted."""
        return tuple(self.all())

    def all(self) -> dict[str, V]:
        """Return every registered value by name, sorted."""
        self.discover()
        return {name: self._entries[name].value for name in sorted(self._entries)}

    def get(self, name: str) -> V:
        """Return what is registered as ``name``, or the function at ``"module:function"``.

        Raises:
            UnknownNameError: nobody registered the name; the nearest ones are offered.
            UsageError: there is no such module or function.
            BrokenPluginError: the module of ``"module:function"``, or one that registers more, does not import.
        """
        if ":" in name and self._by_address:
            return imported(self.kind, name)  # type: ignore[return-value]  # its signature shows when it is called
        return self._entry(name).value

    def address(self, name: str) -> str:
        """Return ``"module:function"`` of a name, by which a process that has not registered it can find it, too."""
        return name if ":" in name else address(self._entry(name).definition)

    def modules(self) -> tuple[str, ...]:
        """Return the files that hold the built-in ones, as modules, without importing them."""
        if self._package is None:
            return ()
        package = importlib.import_module(self._package)
        return tuple(f"{self._package}.{info.name}" for info in pkgutil.iter_modules(package.__path__))

    def discover(self) -> None:
        """Import every file of the package and every module that an entry point names; once is enough.

        Raises:
            BrokenPluginError: one does not import; it is told, so that nothing disappears silently.
            DuplicateNameError: two of them register one name.
        """
        if self._discovered:
            return
        for module, origin in self._sources():
            try:
                importlib.import_module(module)
            except (DuplicateNameError, BrokenPluginError):
                raise
            except Exception as error:
                raise BrokenPluginError(
                    f"{self.kind} file {_file(module)}{origin} does not import: {type(error).__name__}: {error}; "
                    "mend it or take it away"
                ) from error
        self._discovered = True

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Forget at the end of the block what was registered in it: for tests."""
        before = dict(self._entries)
        try:
            yield
        finally:
            self._entries = before

    def _sources(self) -> Iterator[tuple[str, str]]:
        """Yield each module to import, and in words where its name comes from if that is not this package."""
        yield from ((module, "") for module in self.modules())
        if self._entry_points is not None:
            for entry in importlib.metadata.entry_points(group=self._entry_points):
                distribution = entry.dist.name if entry.dist else "an unknown distribution"
                yield entry.module, f" (entry point {entry.name!r} of {distribution})"

    def _entry(self, name: str) -> Entry[V]:
        if name not in self._entries:
            self.discover()
        if name not in self._entries:
            raise UnknownNameError(self.kind, name, self._entries)
        return self._entries[name]


def _file(module: str) -> str:
    """Return the file of a module that does not import, or its name where not even its package does."""
    try:
        spec = importlib.util.find_spec(module)
    except Exception:  # its package does not import either, for whatever reason
        return module
    return spec.origin if spec is not None and spec.origin else module
