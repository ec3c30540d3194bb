"""The list of negative controls: every fault, strategy, part and mask is on it, each once."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from harness import controls
from harness.controls import Control, Scale
from harness.faults import base as faults
from harness.strategies import base as strategies

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
# Known classes that no strategy here can express; the page says why.
NONE = {13, 33}


@functools.cache
def listed(scale: Scale) -> tuple[Control, ...]:
    """Return the controls of a scale, made once."""
    return controls.controls(scale)


def test_every_fault_is_tried_everyday() -> None:
    assert {control.fault.name for control in listed("quick")} == set(faults.bugs())


def test_every_part_of_a_fault_is_tried_everyday() -> None:
    declared = {
        (own.name, part)
        for own in faults.bugs().values()
        for part in own.partial
        if set(controls.CLOSELY) & set(own.on)
    }
    assert {(control.fault.name, control.part) for control in listed("quick") if control.part} == declared


def test_every_strategy_and_every_mask_is_among_the_everyday_controls() -> None:
    full, everyday = listed("full"), listed("quick")
    assert {control.mask for control in everyday} == {"", *controls.MASKS}
    assert {control.case.strategy for control in everyday} == {control.case.strategy for control in full}
    assert {control.id for control in everyday} < {control.id for control in full}


def test_every_parallel_strategy_that_is_judged_exactly_has_its_bugs() -> None:
    tried = {control.case.strategy.partition("+")[0] for control in listed("full")}
    exact = {name for name, own in strategies.strategies().items() if not own.serial and own.equality == "exact"}
    assert exact - tried <= {"torch-dp", "loader-workers"}


def test_no_two_controls_have_one_name() -> None:
    found = [control.id for control in listed("full")]
    assert len(found) == len(set(found))


def test_a_name_tells_bug_part_strategy_ranks_and_mask() -> None:
    names = {control.id for control in listed("full")}
    assert {"sum-for-mean[one tensor]/torch-fsdp/2", "wrong-shard/torch-ddp/2/adamw-clipped"} <= names


def test_a_mask_does_not_take_away_what_a_bug_needs() -> None:
    for control in listed("full"):
        for name, needed in faults.get(control.fault.name).needs.items():
            assert getattr(control.workload, name) == needed, control.id


def test_a_pair_that_is_left_out_comes_with_its_reason() -> None:
    names = {control.id for control in listed("full")}
    for name, reason in controls.left_out().items():
        assert name not in names
        assert reason


def test_a_clean_case_is_told_once() -> None:
    found = [case.id for case, _ in controls.clean(listed("full"))]
    assert len(found) == len(set(found))


# -- the page of faults ------------------------------------------------------------------------------------------------


def told() -> dict[str, int]:
    """Return the class under which the page names each fault."""
    return {name: int(number) for number, name in re.findall(r"^\| (\d+) \|.*\| `([\w-]+)` \|", PAGE.read_text(), re.M)}


def test_the_page_names_every_fault_under_its_class() -> None:
    assert told() == {name: own.entry for name, own in faults.bugs().items()}


def test_every_class_has_a_fault_or_a_reason() -> None:
    classes = {int(number) for number in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.M)}
    assert classes == set(range(1, max(classes) + 1))
    assert classes - set(told().values()) == NONE


def test_the_page_names_every_cause() -> None:
    text = PAGE.read_text()
    lacking = {cause for own in faults.bugs().values() for cause in own.causes if f"| `{cause}` |" not in text}
    assert lacking == set()


def test_the_list_of_faults_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from harness.cli import main

    assert main(["list", "--faults"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in faults.bugs())
