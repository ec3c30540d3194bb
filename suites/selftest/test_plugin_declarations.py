"""Strategies from a user's conftest, from installed distributions, twice, or broken; and projects that have none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from plugin_project import CONFTEST, ONE, Project

STRATEGY = """
import numpy_strategies
from harness import strategy
@strategy("{name}", framework="plain", requires=(), backends={{"cpu": "pipes"}}, reference_of="plain-serial")
def train(job):
    return numpy_strategies.mean(job)
"""


def distribute(project: Project, module: str, source: str) -> str:
    """Install a distribution that offers ``module`` as a strategy file; return the path to add to PYTHONPATH."""
    project.write(f"site/{module}.py", source)
    project.write(
        "site/acme_lockstep-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme-lockstep\nVersion: 1\n"
    )
    project.write("site/acme_lockstep-1.0.dist-info/entry_points.txt", f"[harness.strategies]\nacme = {module}:train\n")
    return f"{project.environment['PYTHONPATH']}:{project.folder / 'site'}"


def test_an_installed_distribution_adds_a_strategy(tmp_path: Path) -> None:
    project = Project(tmp_path)
    path = distribute(project, "acme_strategy", STRATEGY.format(name="acme"))
    result = project.run(*ONE, "--ls-strategy=acme", PYTHONPATH=path)
    assert result.code == 0
    assert result.verdicts() == {"tiny/acme/2/cpu": "equivalent", "tiny/numpy-mean/2/cpu": "equivalent"}


def test_a_broken_file_of_an_installed_distribution_stops_the_run_and_is_named(tmp_path: Path) -> None:
    project = Project(tmp_path)
    path = distribute(project, "acme_broken", "import no_such_module\n")
    result = project.run(*ONE, PYTHONPATH=path)
    assert result.code == pytest.ExitCode.USAGE_ERROR
    assert f"strategy file {project.folder}/site/acme_broken.py (entry point 'acme' of acme-lockstep)" in result.text
    assert "does not import: ModuleNotFoundError: No module named 'no_such_module'" in result.text


def test_a_broken_strategy_file_that_a_conftest_imports_stops_the_run_and_is_named(tmp_path: Path) -> None:
    project = Project(tmp_path, conftest=CONFTEST + "import mine\n")
    broken = project.write("mine.py", STRATEGY.format(name="mine").replace("return", "retrun"))
    result = project.run(*ONE)
    assert result.code == pytest.ExitCode.USAGE_ERROR
    assert str(broken) in result.text
    assert "SyntaxError" in result.text


def test_two_strategies_of_one_name_stop_the_run_and_both_are_named(tmp_path: Path) -> None:
    project = Project(tmp_path, conftest=CONFTEST + "import one, two\n")
    first = project.write("one.py", STRATEGY.format(name="twin"))
    second = project.write("two.py", "\n" + STRATEGY.format(name="twin"))
    result = project.run(*ONE)
    assert result.code == pytest.ExitCode.USAGE_ERROR
    assert f"two definitions of strategy 'twin': {first}:4 and {second}:5; rename one of them" in result.text


def test_a_strategy_in_a_conftest_further_down_is_found_and_marked(tmp_path: Path) -> None:
    project = Project(tmp_path, tests="")
    own = STRATEGY.format(name="below").replace('"plain"', '"own-framework"')
    project.write("deep/conftest.py", own)
    project.write("deep/test_deep.py", "def test_parity(verdict):\n    assert verdict.equivalent\n")
    result = project.run("--ls-workload=tiny", "-m", "own-framework")
    assert result.code == 0
    assert result.verdicts() == {"tiny/below/2/cpu": "equivalent"}


FOREIGN = """
import os, signal, multiprocessing, pytest

def pytest_addoption(parser):
    for name in ("--device", "--strategy", "--workload", "--world-size", "--timeout", "--run"):
        parser.addoption(name, default="mine")

def pytest_configure(config):
    config.addinivalue_line("markers", "torch: mine")
    config.addinivalue_line("markers", "slow: mine")

@pytest.fixture
def run(): return "my run"
@pytest.fixture
def timing(): return 1.0
@pytest.fixture
def verdict(timing): return timing
"""
FOREIGN_TESTS = """
import multiprocessing, os, signal, time, pytest

@pytest.mark.parametrize("case", [1, 2])
def test_own_parameter(case, run, verdict):
    assert case in (1, 2) and run == "my run" and verdict == 1.0

@pytest.mark.torch
def test_own_option(request):
    assert request.config.getoption("--device") == "mine"

def test_signals_are_as_ever():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""


@pytest.mark.parametrize("arguments", [(), ("-n", "2")])
def test_a_project_without_cases_is_left_alone(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    # As after `pip install`: the plugin is there whether the project knows it or not.
    project = Project(tmp_path, FOREIGN_TESTS, FOREIGN)
    result = project.run("-p", "harness.plugin", "--device=mine", *arguments)
    assert result.code == 0, result.text
    assert "4 passed" in result.text
    # Of its presence only the header may tell, where it is really installed.
    told = [line for line in result.text.splitlines() if "lockstep" in line and not line.startswith("plugins:")]
    assert told == []
    assert not result.reports.exists()
    assert project.scratch_left() == []
    assert not list(project.temporary.glob("lockstep*.lease"))
    assert project.run("-p", "harness.plugin", "-m", "torch").code == 0


def test_the_plugin_may_be_installed_and_listed_in_a_conftest(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("site/lockstep_harness-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: lockstep-harness\n")
    project.write("site/lockstep_harness-1.dist-info/entry_points.txt", "[pytest11]\nharness.plugin = harness.plugin\n")
    result = project.run(*ONE, PYTHONPATH=f"{project.environment['PYTHONPATH']}:{project.folder / 'site'}")
    assert result.code == 0
    assert "lockstep-harness" in result.text  # among the plugins of the header
    assert result.verdicts() == {"tiny/numpy-mean/2/cpu": "equivalent"}


OWN_MODEL = (
    CONFTEST
    + """
import math
from harness import Check, Workload, workload
from harness.models.base import Dense, Flatten, model

@model("mine")
def mine(shape, num_classes, dropout):
    return Flatten(), Dense(name="dense1", in_features=math.prod(shape), out_features=num_classes)

@workload("conformance")
def own():
    check = Check(num_samples=23, global_batch=8, num_held_out=16)
    return Workload(name="own", model="mine", dataset="synthetic", shape=(1, 4, 4), num_classes=3, check=check)
"""
)


def test_a_model_registered_in_a_conftest_reaches_the_ranks(tmp_path: Path) -> None:
    result = Project(tmp_path, conftest=OWN_MODEL).run("--ls-workload=own", *ONE[1:])
    assert result.code == 0, result.text
    assert result.verdicts() == {"own/numpy-mean/2/cpu": "equivalent"}


def test_the_log_of_a_rank_that_failed_outlives_the_session(tmp_path: Path) -> None:
    # Only one rank, or either could be the first to fail.
    last_words = "if job.rank == 0:\n        print('the last words')\n        raise ValueError('no')\n    return"
    loud = STRATEGY.format(name="loud").replace("return", last_words)
    project = Project(tmp_path, conftest=CONFTEST + loud)
    result = project.run("--ls-workload=tiny", "--ls-strategy=loud", "--ls-world-size=2")
    assert result.code == 1
    (log,) = {Path(found) for found in re.findall(r"all of it in (\S+rank0\.log):", result.text)}
    assert (project.folder / log).read_text() == "the last words\n"
    assert project.scratch_left() == []
