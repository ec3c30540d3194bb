"""Functions register themselves by name; clashes and unknown names are told with the way out."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import BrokenPluginError, DuplicateNameError, SpecError, UnknownNameError, UsageError
from harness.models import base
from harness.registry import Registry

Things = Callable[..., object]


def one() -> int:
    return 1


def another() -> int:
    return 2


@pytest.fixture
def registry() -> Registry[Things]:
    return Registry("thing", "harness.models")


def test_a_registered_function_is_found_by_name_and_by_address(registry: Registry[Things]) -> None:
    registry.register("one", one)
    assert registry.get("one") is one
    assert registry.address("one") == f"{__file__}:one"  # a test module's name means nothing to another process
    assert base.registry.address("mlp") == "harness.models.mlp:mlp"
    assert registry.address("anywhere:at_all") == "anywhere:at_all"


def test_registering_the_same_definition_again_is_no_clash(registry: Registry[Things]) -> None:
    registry.register("one", one)
    registry.register("one", one)
    assert registry.known() == ("one",)


def test_two_definitions_of_one_name_are_refused_naming_both_places(registry: Registry[Things]) -> None:
    registry.register("one", one)
    with pytest.raises(DuplicateNameError, match=r"two definitions of thing 'one'.*test_registry.py:\d+ and .*:\d+"):
        registry.register("one", another)


def test_an_unknown_name_offers_the_nearest(registry: Registry[Things]) -> None:
    registry.register("resnet", one)
    with pytest.raises(UnknownNameError, match="unknown thing 'resent'; did you mean 'resnet'"):
        registry.get("resent")


def test_a_function_nobody_registered_is_found_by_module_and_name(
    registry: Registry[Things], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_own_thing.py").write_text("def made():\n    return 3\n\nnumber = 4\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.get("users_own_thing:made")() == 3
    with pytest.raises(UsageError, match="expected a function at 'users_own_thing:number' but got 4"):
        registry.get("users_own_thing:number")
    with pytest.raises(UsageError, match="no attribute 'maid'"):
        registry.get("users_own_thing:maid")
    del sys.modules["users_own_thing"]


def test_a_module_that_does_not_import_is_told_with_its_error(
    registry: Registry[Things], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_thing.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BrokenPluginError, match="ZeroDivisionError: division by zero; mend"):
        registry.get("broken_thing:made")


def test_what_is_not_a_plain_function_is_refused(registry: Registry[Things]) -> None:
    registry.register("number", one)
    with pytest.raises(SpecError, match="expected a plain function"):
        registry.register("number", int)
    with pytest.raises(SpecError, match="expected a plain function"):
        registry.get("builtins:int")


def test_a_name_that_looks_like_an_address_is_refused(registry: Registry[Things]) -> None:
    with pytest.raises(SpecError, match="without ':'"):
        registry.register("module:function", one)


def test_a_value_is_registered_with_the_function_that_defines_it() -> None:
    numbers: Registry[int] = Registry("number", by_address=False)
    numbers.register("two", 2, another)
    numbers.register("one", 1, one)
    assert numbers.get("one") == 1
    assert numbers.all() == {"one": 1, "two": 2}
    assert list(numbers.all()) == ["one", "two"], "sorted"
    assert numbers.address("one") == f"{__file__}:one"
    with pytest.raises(DuplicateNameError, match="two definitions of number 'one'"):
        numbers.register("one", 1, another)
    with pytest.raises(SpecError, match="expected a plain function to register but got 3"):
        numbers.register("three", 3)
    with pytest.raises(UnknownNameError, match="unknown number"):
        numbers.get("module:function")


def test_what_is_registered_in_passing_is_forgotten(registry: Registry[Things]) -> None:
    registry.register("one", one)
    with registry.passing():
        registry.register("two", another)
        assert registry.get("two") is another
    assert registry.known() == ("one",)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package whose modules register themselves."""
    (tmp_path / "things").mkdir()
    (tmp_path / "things/__init__.py").write_text(
        "from harness.registry import Registry\nthings = Registry('thing', 'things', entry_points='my.things')\n"
    )
    (tmp_path / "things/first.py").write_text(
        "from things import things\ndef first(): ...\nthings.register('first', first)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "things"
    for name in [name for name in sys.modules if name.partition(".")[0] == "things"]:
        del sys.modules[name]


def test_the_modules_of_the_package_are_imported_when_first_asked_for(package: Path) -> None:
    found: Registry[Things] = importlib.import_module("things").things
    assert found.modules() == ("things.first",)
    assert "things.first" not in sys.modules
    assert found.known() == ("first",)


def test_a_module_of_the_package_that_does_not_import_is_named(package: Path) -> None:
    (package / "second.py").write_text("raise RuntimeError('not today')\n")
    found: Registry[Things] = importlib.import_module("things").things
    for _ in range(2):  # nothing is forgotten between one look and the next
        with pytest.raises(BrokenPluginError, match=r"thing file .*/second.py does not import: RuntimeError: not"):
            found.known()


def test_two_modules_of_one_name_are_both_named(package: Path) -> None:
    (package / "second.py").write_text((package / "first.py").read_text())
    with pytest.raises(DuplicateNameError, match=r"first.py:2 and .*second.py:2"):
        importlib.import_module("things").things.known()
