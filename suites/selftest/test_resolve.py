"""Addresses of functions: what one process writes down, another one finds."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import resolve as module
from harness.errors import UsageError
from harness.models.mlp import mlp
from harness.resolve import address, resolve


def top(value: int = 3) -> int:
    return value


def loud(function: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(function)
    def wrapper(*args: int) -> int:
        return function(*args)

    return wrapper


@loud
def decorated(value: int = 4) -> int:
    return value


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Write a module and import it."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def make(name: str, source: str) -> Any:
        path = tmp_path / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_function_of_a_module_is_found_by_the_modules_name() -> None:
    assert address(mlp) == "harness.models.mlp:mlp"
    assert resolve("harness.models.mlp:mlp") is mlp


def test_a_function_of_a_test_file_is_found_by_its_path() -> None:
    assert address(top) == f"{__file__}:top"
    assert resolve(address(top)) is top, "the module is not loaded a second time"


def test_a_decorated_function_is_found_where_it_stands() -> None:
    assert address(decorated) == f"{__file__}:decorated"
    assert resolve(address(decorated)) is decorated


def test_another_process_finds_it_too(tmp_path: Path) -> None:
    # The file is loaded by its path, as in a rank; what it imports from its neighbours must be on the path.
    program = f"from harness.resolve import resolve; print(resolve({address(top)!r})(5))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(module.__file__).parents[1])},
        cwd=tmp_path,
    )
    assert done.stdout == "5\n"


def test_a_module_that_another_one_of_its_name_hides_is_found_by_its_path(
    made: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = made("twin", "def f(): return 'mine'\n")
    assert address(mine.f) == "twin:f"
    (tmp_path / "first").mkdir()
    (tmp_path / "first/twin.py").write_text("def f(): return 'another'\n")
    monkeypatch.syspath_prepend(tmp_path / "first")
    assert address(mine.f) == f"{tmp_path}/twin.py:f"


def test_a_module_in_a_package_is_found_by_its_full_name(made: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("")
    deep = made("package.test_deep", "def f(): return 1\n")
    assert address(deep.f) == "package.test_deep:f"


def test_a_conftest_outside_a_package_is_found_by_its_path(made: Callable[..., Any], tmp_path: Path) -> None:
    conftest = made("conftest_of_users", "def f(): return 1\n")
    assert address(conftest.f) == f"{tmp_path}/conftest_of_users.py:f"


def test_a_nested_function_is_refused_with_the_way_out() -> None:
    def nested() -> None: ...

    for function in (nested, lambda: None, Path.exists):
        with pytest.raises(UsageError, match=r"expected a function at the top of a module but got .*move it out"):
            address(function)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("harness.models.mlp:mpl", "no attribute 'mpl'"),
        ("harness.models.mlp:math", "got <module 'math'"),
        ("/no/such/file.py:f", "No such file"),
        ("nonsense", "expected 'module:function' but got 'nonsense'"),
    ],
)
def test_an_address_that_leads_nowhere_is_told(where: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolve(where)


def test_half_a_module_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    file = tmp_path / "half.py"
    file.write_text("def f(): return 1\n1 / 0\n")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            resolve(f"{file}:f")
    assert not [name for name in sys.modules if name.endswith("_half")]
