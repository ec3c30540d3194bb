"""Addresses of functions that a rank must find again.

They are written ``module:function``, or ``file.py:function`` for what no import reaches.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import UsageError

# Outside a package, a conftest or a test module may share its name with another one.
PRIVATE_TO_PYTEST = ("conftest", "test_")


def address(function: Callable[..., Any]) -> str:
    """Return where another process finds ``function``, a function at the top of a module.

    Raises:
        UsageError: it is nested in another function, so that no other process can find it.
    """
    if "<" in function.__qualname__ or "." in function.__qualname__:
        raise UsageError(
            f"expected a function at the top of a module but got {function.__module__}:{function.__qualname__}; "
            "move it out, so that ranks can import it"
        )
    module, file = function.__module__, _file_of(function)
    private = module.startswith(PRIVATE_TO_PYTEST) and "." not in module
    reachable = not private and _origin(module) == file
    return f"{module if reachable else file}:{function.__name__}"


def resolve(where: str) -> Callable[..., Any]:
    """Return the function at an address.

    Raises:
        UsageError: there is no such module, file or function.
    """
    place, _, name = where.rpartition(":")
    if not place or not name:
        raise UsageError(f"expected 'module:function' but got {where!r}")
    try:
        module = _load(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        function = getattr(module, name)
    except (ImportError, AttributeError, OSError) as error:
        raise UsageError(f"expected a function at {where!r} but {error}; write 'module:function'") from error
    if not callable(function):
        raise UsageError(f"expected a function at {where!r} but got {function!r}")
    found: Callable[..., Any] = function
    return found


def _file_of(function: Callable[..., Any]) -> Path:
    """Return the file of the module that holds ``function``; its code may be in that of a decorator."""
    module = sys.modules.get(function.__module__)
    return Path(getattr(module, "__file__", None) or inspect.unwrap(function).__code__.co_filename).resolve()


def _origin(module: str) -> Path | None:
    """Return the file that a fresh process would import as ``module``, or None.

    Another one of that name may come first: a folder ``tests`` on the path is a namespace package to Python, and under
    pytest's importlib mode a module has a name that no import finds.
    """
    path: Sequence[str] | None = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return Path(spec.origin).resolve() if spec is not None and spec.origin else None


def _load(file: Path) -> ModuleType:
    """Return the module in ``file``, from the modules already imported if one of them came from there."""
    for module in list(sys.modules.values()):
        known = getattr(module, "__file__", None)
        if isinstance(known, str) and known.endswith(file.name) and Path(known).resolve() == file:
            return module
    name = f"_lockstep_{hashlib.sha256(os.fsencode(file)).hexdigest()[:12]}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # half a module must not be taken for a whole one
        raise
    return module
