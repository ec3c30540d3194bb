"""Addresses of functions that a rank must find again.

They are written ``module:function``, or ``file.py:function`` for what no import reaches.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from harness.errors import UsageError

# A conftest or a test module may share its name with another one, or have none under pytest's importlib mode.
PRIVATE_TO_PYTEST = ("conftest", "test_")


def address(function: Callable[..., Any]) -> str:
    """Return where another process finds ``function``, a plain function at the top of a module.

    Raises:
        UsageError: it is nested in another function, so that no other process can find it.
    """
    if "<" in function.__qualname__ or "." in function.__qualname__:
        raise UsageError(
            f"expected a function at the top of a module but got {function.__module__}:{function.__qualname__}; "
            "move it out, so that ranks can import it"
        )
    module, file = function.__module__, function.__code__.co_filename
    private = module.rpartition(".")[2].startswith(PRIVATE_TO_PYTEST)
    reachable = not private and PathFinder.find_spec(module.partition(".")[0]) is not None
    return f"{module if reachable else Path(file).resolve()}:{function.__name__}"


def resolve(where: str) -> Callable[..., Any]:
    """Return the function at an address.

    Raises:
        UsageError: there is no such module, file or function.
    """
    place, _, name = where.rpartition(":")
    try:
        module = _load(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        function = getattr(module, name)
    except (ImportError, AttributeError, OSError) as error:
        raise UsageError(f"expected a function at {where!r} but {error}; write 'module:function'") from error
    if not callable(function):
        raise UsageError(f"expected a function at {where!r} but got {function!r}")
    found: Callable[..., Any] = function
    return found


def _load(file: Path) -> Any:
    """Return the module in ``file``, from the modules already imported if one of them came from there."""
    for module in list(sys.modules.values()):
        origin = getattr(module, "__file__", None)
        if origin and Path(origin).resolve() == file:
            return module
    spec = importlib.util.spec_from_file_location(f"_lockstep_{file.stem}_{abs(hash(str(file))):x}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
