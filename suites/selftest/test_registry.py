"""Functions register themselves by name; clashes and unknown names are told with the way out."""

from __future__ import annotations

import sys
from collections.abc import Callable
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
    assert base.address("mlp") == "harness.models.mlp:mlp"
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
