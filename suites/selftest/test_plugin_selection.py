"""Which cases a run has, what they are marked with, and what is said where none can run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plugin_project import CONFTEST, ONE, PARITY, TIMING, Project, Result

FRAMEWORKS = ("torch", "tensorflow", "keras", "horovod", "torchgpipe", "pandas", "sklearn", "scipy", "jinja2")
# Prints, once all is collected, every test with its markers, and which frameworks that took.
TELL = """
import json, sys
def pytest_collection_finish(session):
    marked = {item.nodeid: sorted({mark.name for mark in item.iter_markers()}) for item in session.items}
    imported = [name for name in %r if name in sys.modules]
    print("COLLECTED", json.dumps([marked, imported]))
"""


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], list[str]]:
    project = Project(tmp_path_factory.mktemp("collected"), PARITY + TIMING, CONFTEST + TELL % (FRAMEWORKS,))
    result = project.run("--collect-only", "-q", "--ls-scale=full")
    (line,) = (line for line in result.text.splitlines() if line.startswith("COLLECTED"))
    marked, imported = json.loads(line.removeprefix("COLLECTED"))
    return marked, imported


def markers(collected: tuple[dict[str, list[str]], list[str]], test: str, case: str) -> set[str]:
    return set(collected[0][f"test_case.py::{test}[{case}]"]) - {"skip", "xdist_group"}


def test_a_case_is_marked_with_its_suite_framework_and_device(
    collected: tuple[dict[str, list[str]], list[str]],
) -> None:
    assert markers(collected, "test_parity", "tiny/numpy-mean/3/cpu") == {"conformance", "plain", "cpu"}
    assert markers(collected, "test_timing", "tiny/numpy-mean/3/cpu") == {"performance", "plain", "cpu"}
    assert markers(collected, "test_parity", "tiny/numpy-mean/2/cuda") == {"conformance", "plain", "gpu2"}
    assert markers(collected, "test_parity", "tiny/numpy-mean/3/cuda") == {"conformance", "plain", "gpu3"}


def test_two_ranks_of_a_smoke_workload_on_the_cpu_are_smoke(
    collected: tuple[dict[str, list[str]], list[str]],
) -> None:
    assert "smoke" in markers(collected, "test_parity", "tiny/numpy-mean/2/cpu")
    assert "smoke" in markers(collected, "test_parity", "digits-mlp/torch-ddp/2/cpu")
    assert "smoke" not in markers(collected, "test_parity", "digits-mlp/torch-ddp/3/cpu")
    assert "smoke" not in markers(collected, "test_parity", "digits-cnn/torch-ddp/2/cpu")


def test_a_serial_reference_is_no_case(collected: tuple[dict[str, list[str]], list[str]]) -> None:
    assert not [test for test in collected[0] if "serial" in test]


def test_collection_imports_no_framework(collected: tuple[dict[str, list[str]], list[str]]) -> None:
    assert len(collected[0]) > 50
    assert collected[1] == []


def refused(result: Result, words: str) -> bool:
    """Whether pytest refused the command line, telling ``words`` once."""
    return result.code == pytest.ExitCode.USAGE_ERROR and result.text.count(words) == 1


def test_asking_for_gpus_on_a_machine_without_any_fails_and_says_why(tmp_path: Path) -> None:
    project = Project(tmp_path, PARITY + "def test_plain():\n    pass\n")
    result = project.run("-m", "gpu2", CUDA_VISIBLE_DEVICES="")
    assert result.code == pytest.ExitCode.TESTS_FAILED
    why = "needs 2 CUDA devices, found 0 (CUDA_VISIBLE_DEVICES: empty)"
    assert f"asked for -m gpu2 and verified nothing: {why}" in result.text
    assert {(record.verdict, record.reason) for record in result.records} == {("not-verified", why)}
    assert result.info["exit_status"] == 1


def test_what_was_not_asked_for_may_be_skipped(tmp_path: Path) -> None:
    result = Project(tmp_path).run("-m", "not slow", "-k", "tiny and numpy-mean", CUDA_VISIBLE_DEVICES="")
    assert result.code == 0
    assert result.verdicts()["tiny/numpy-mean/2/cuda"] == "not-verified"
    assert result.verdicts()["tiny/numpy-mean/2/cpu"] == "equivalent"


def test_asking_for_what_no_case_offers_fails(tmp_path: Path) -> None:
    project = Project(tmp_path)
    serial = project.run("--ls-strategy=plain-serial")
    assert serial.code == pytest.ExitCode.TESTS_FAILED
    assert "asked for --ls-strategy plain-serial and verified nothing: no case fits" in serial.text
    many = project.run("-m", "slurm")
    assert many.code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "asked for -m slurm and verified nothing: no case fits" in many.text


def test_requiring_more_gpus_than_there_are_fails_at_once(tmp_path: Path) -> None:
    result = Project(tmp_path).run("--ls-require-gpus=2", CUDA_VISIBLE_DEVICES="")
    assert refused(result, "--ls-require-gpus: needs 2 CUDA devices, found 0 (CUDA_VISIBLE_DEVICES: empty)")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--ls-strategy=numpy-meen", "unknown strategy 'numpy-meen'; did you mean 'numpy-mean'"),
        ("--ls-workload=tyni", "unknown workload 'tyni'; did you mean 'tiny'"),
        ("--ls-world-size=0", "argument --ls-world-size: expected a number >= 1 but got 0"),
    ],
)
def test_a_name_or_number_that_cannot_be_is_told_once(tmp_path: Path, option: str, words: str) -> None:
    # Several tests ask for cases; the mistake is still one.
    assert refused(Project(tmp_path, PARITY + TIMING).run(option), words)


def test_an_impossible_world_size_fails_its_case_and_a_single_rank_verifies_nothing(tmp_path: Path) -> None:
    project = Project(
        tmp_path, "def test_mine(verdict, case):\n    assert verdict.equivalent == (case.world_size > 1)\n"
    )
    result = project.run(*ONE, "--ls-world-size=9", "--ls-world-size=1")
    assert result.code == pytest.ExitCode.TESTS_FAILED
    # The impossible one spares those after it.
    assert "2 passed, 1 error" in result.text
    assert "SpecError: expected at least 1 sample(s) per rank in every micro-batch" in result.text
    assert "or use fewer ranks" in result.text
    assert "Traceback" not in result.text
    assert [record.verdict for record in result.records] == ["equivalent", "not-verified", "not-verified"]
    assert result.records[2].reason.startswith("one rank is no parallelism")


LACKING = """
from harness import strategy
from harness.errors import MissingRequirementError

@strategy("lacking", framework="nowhere", requires=("no_such_framework", "numpy"), backends={"cpu": "x"},
          reference_of="plain-serial")
def train(job):
    raise AssertionError("never called")

@strategy("late", framework="plain", requires=(), backends={"cpu": "x"}, reference_of="plain-serial")
def late(job):
    raise MissingRequirementError("needs a moon; wait for the night")
"""


def test_what_is_missing_skips_its_cases_and_is_recorded(tmp_path: Path) -> None:
    project = Project(tmp_path, conftest=CONFTEST + LACKING)
    result = project.run(*ONE, "--ls-strategy=lacking", "--ls-strategy=late", "-rs")
    assert result.code == 0
    known = "needs no_such_framework, which is not installed"
    assert f"SKIPPED [1] test_case.py: {known}" in result.text
    found = "needs a moon; wait for the night"
    assert f"SKIPPED [1] test_case.py:1: {found}" in result.text
    assert [(r.strategy, r.framework, r.verdict) for r in result.records] == [
        ("lacking", "nowhere", "not-verified"),
        ("late", "plain", "not-verified"),
        ("numpy-mean", "plain", "equivalent"),
    ]
    assert [r.reason for r in result.records[:2]] == [known, found]
