"""Things that are registered by name where they are defined: one decorator, one file, no list to edit."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FunctionType
from typing import Generic, TypeVar

from harness.errors import BrokenPluginError, DuplicateNameError, SpecError, UnknownNameError, UsageError
from harness.resolve import address, resolve

F = TypeVar("F", bound=Callable[..., object])


def where(function: Callable[..., object]) -> str:
    """Return ``file:line`` of a function's definition."""
    if not isinstance(function, FunctionType):
        raise SpecError(f"expected a plain function to register but got {function!r}; write it with def")
    return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"


def imported(kind: str, location: str) -> Callable[..., object]:
    """Return the function at ``"module:function"``.

    Raises:
        UsageError: there is no such module or function.
        BrokenPluginError: the module fails while it is imported.
    """
    try:
        function = resolve(location)
    except UsageError:
        raise
    except Exception as error:
        raise BrokenPluginError(
            f"expected {kind} {location!r} to be an importable 'module:function' but got "
            f"{type(error).__name__}: {error}; mend the module or the name"
        ) from error
    where(function)  # refuses what is no plain function
    return function


@dataclass(frozen=True, slots=True)
class Registry(Generic[F]):
    """Functions by name; ``package`` holds the built-in ones, a file each, imported when first asked for."""

    kind: str
    package: str
    _functions: dict[str, F] = field(default_factory=dict)

    def register(self, name: str, function: F) -> F:
        """Add ``function`` under ``name``.

        Raises:
            DuplicateNameError: another definition has this name; the message gives both places.
            SpecError: not a plain function, or a name that looks like ``"module:function"``.
        """
        if ":" in name:
            raise SpecError(
                f"expected a {self.kind} name without ':' but got {name!r}; that form means module:function"
            )
        first = self._functions.get(name)
        if first is not None and where(first) != where(function):
            raise DuplicateNameError(self.kind, name, where(first), where(function))
        self._functions[name] = function
        return function

    def known(self) -> tuple[str, ...]:
        """Return every registered name, sorted."""
        self._discover()
        return tuple(sorted(self._functions))

    def get(self, name: str) -> F:
        """Return the function registered as ``name``, or the one at ``"module:function"``.

        Raises:
            UnknownNameError: nobody registered the name; the nearest ones are offered.
            UsageError: there is no such module or function.
            BrokenPluginError: the module of ``"module:function"`` fails while it is imported.
        """
        if ":" in name:
            return imported(self.kind, name)  # type: ignore[return-value]  # its signature shows when it is called
        if name not in self._functions:
            self._discover()
        if name not in self._functions:
            raise UnknownNameError(self.kind, name, self._functions)
        return self._functions[name]

    def address(self, name: str) -> str:
        """Return ``"module:function"`` of a name, by which a process that has not registered it can find it, too."""
        return name if ":" in name else address(self.get(name))

    def modules(self) -> tuple[str, ...]:
        """Return the files that hold the built-in ones, as modules, without importing them."""
        package = importlib.import_module(self.package)
        return tuple(f"{self.package}.{info.name}" for info in pkgutil.iter_modules(package.__path__))

    def _discover(self) -> None:
        for module in self.modules():
            importlib.import_module(module)
