"""What a user's function is taken for, by its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import strategy
from harness.contract.adopt import Framework, adopt, shape_of, takes_function
from harness.contract.trainings import CONTRACT
from harness.errors import BrokenPluginError, DuplicateNameError, SpecError, UsageError
from harness.features import features
from harness.plan import shard
from harness.strategies import base as strategies


@pytest.fixture(autouse=True)
def _passing() -> Iterator[None]:
    with strategies._registry.passing():
        yield


def step(model: Any, optimizer: Any, inputs: Any, labels: Any) -> None: ...
def renamed(net: Any, opt: Any, x: Any, y: Any, *, clip_norm: float | None, verbose: bool = False) -> None: ...
def wrapper(module: Any, find_unused: bool = False) -> None: ...
def train(job: Any) -> None: ...
def shuffled(optimizer: Any, model: Any, inputs: Any, labels: Any) -> None: ...
def three(model: Any, inputs: Any, labels: Any) -> None: ...
def five(model: Any, optimizer: Any, inputs: Any, labels: Any, device: Any) -> None: ...
def unclear(thing: Any) -> None: ...
def anything(*things: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "shape"), [(step, "step"), (renamed, "step"), (wrapper, "wrap"), (train, "train")]
)
def test_a_function_is_known_by_its_parameters(function: Callable[..., Any], shape: str) -> None:
    assert shape_of(function) == shape


@pytest.mark.parametrize("function", [shuffled, three, five, unclear, anything, print])
def test_what_is_none_of_the_three_is_refused_with_all_of_them(function: Callable[..., Any]) -> None:
    with pytest.raises(SpecError, match=r"expected step\(model, optimizer, inputs, labels\) -> loss, wrap\(model\)"):
        shape_of(function)


def test_a_step_is_a_strategy_that_names_what_it_does_not_take() -> None:
    adopted = adopt(step)
    assert strategies.get("step") is adopted
    assert takes_function(adopted)
    assert adopted.chosen["function"] == f"{__file__}:step"
    assert adopted.where.startswith(f"{__file__}:")
    assert adopted.limits["clip-norm"] == "the step takes no clip_norm"
    assert "clip-norm" not in adopt(renamed).limits
    assert "accumulation" in adopt(renamed).limits
    assert adopt(wrapper).limits == {}
    assert strategies.get("wrapper+starts-equal").chosen["starts-equal"] is True


def test_a_function_is_found_by_its_address_and_twice_is_once() -> None:
    assert adopt(f"{__file__}:step") == adopt(step)


def test_a_relative_path_is_found_from_the_folder_it_is_given_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    assert adopt(f"{Path(__file__).name}:step").chosen["function"] == f"{__file__}:step"


def test_a_strategy_that_declares_itself_stays_what_it_declares() -> None:
    declare = strategy("mine", framework="plain", requires=(), backends={"cpu": "x"}, reference_of="torch-serial")
    declare(train)  # type: ignore[arg-type]
    adopted = adopt(train)
    assert (adopted.name, adopted.framework) == ("mine", "plain")
    assert not takes_function(adopted)


@pytest.mark.parametrize(("framework", "serial"), [("torch", "torch-serial"), ("tensorflow", "keras-serial")])
def test_an_undeclared_train_is_held_against_the_serial_strategy_of_its_framework(
    framework: Framework, serial: str
) -> None:
    assert adopt(train, framework=framework).reference_of == serial


def test_a_step_is_pytorchs() -> None:
    with pytest.raises(UsageError, match="expected framework torch for the step step but got tensorflow"):
        adopt(step, framework="tensorflow")


def test_a_name_that_is_taken_and_a_module_that_does_not_import_are_told(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("def step(model, optimizer, inputs, labels): ...\n")
    (tmp_path / "broken.py").write_text("import no_such_module_anywhere\n")
    (tmp_path / "raising.py").write_text("1 / 0\n")
    adopt(step)
    with pytest.raises(DuplicateNameError, match=r"strategy 'step'.*other\.py:1"):
        adopt(f"{tmp_path}/other.py:step")
    with pytest.raises(UsageError, match="no_such_module_anywhere"):
        adopt(f"{tmp_path}/broken.py:step")
    with pytest.raises(BrokenPluginError, match="ZeroDivisionError"):
        adopt(f"{tmp_path}/raising.py:step")


def test_the_contract_asks_each_thing_that_a_step_can_take_part_in() -> None:
    asked = {feature for workload in CONTRACT for feature in features(workload)}
    assert asked >= {"momentum", "adamw", "uneven-batch", "clip-norm", "accumulation", "batch-norm"}
    assert len({workload.name for workload in CONTRACT}) == len(CONTRACT)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_shares_are_of_one_size_where_no_unevenness_is_asked(world_size: int) -> None:
    even = [workload.check for workload in CONTRACT if "uneven-batch" not in features(workload)]
    assert even
    for check in even:
        batch = list(range(check.global_batch))
        assert check.num_samples % check.global_batch == 0
        assert {len(shard(batch, rank, world_size)) for rank in range(world_size)} == {len(batch) // world_size}  # type: ignore[arg-type]
