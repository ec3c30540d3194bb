"""Ctrl-C, SIGTERM and SIGKILL at any moment: no process is left, and what was finished can be read."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest
from plugin_project import CONFTEST, ONE, PARITY, Project, Result

HANGING = CONFTEST + "numpy_strategies.misbehaving('hangs')\n"
# The marked test comes first and passes; the other one hangs in its ranks.
THEN_HANG = """
import pytest
@pytest.mark.parity(strategy="numpy-mean", workload="tiny")
def test_first(verdict):
    assert verdict.equivalent
@pytest.mark.parity(strategy="numpy-hangs", workload="tiny")
def test_hangs(verdict):
    pass
@pytest.mark.parity(strategy="numpy-mean", workload="tiny", world_size=3)
def test_never_reached(verdict):
    pass
"""


def hanging_ranks(project: Project) -> list[int]:
    return [int(note) for note in project.noted() if note.isdigit()]


def finished(project: Project) -> bool:
    """Return whether the first case is on disk."""
    return any(file.stat().st_size for file in (project.folder / "reports").glob("*/records.jsonl"))


def interrupted(project: Project, number: signal.Signals, *arguments: str) -> tuple[Result, int]:
    """Run pytest until its ranks hang, send a signal, and return how it ended and how many processes are left."""
    process = project.start(*arguments)
    # Of several workers the one that hangs may do so before the record of the other has arrived.
    project.wait_for(lambda: len(hanging_ranks(project)) == 2 and finished(project))
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) >= 4, "a guardian, a zygote and two ranks"
    process.send_signal(number)
    result = project.end(process)
    _gone, left = psutil.wait_procs(below, timeout=10)
    return result, len(left)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_in_the_middle_leaves_no_process_and_a_report(tmp_path: Path, number: signal.Signals) -> None:
    project = Project(tmp_path, THEN_HANG, HANGING)
    result, num_left = interrupted(project, number)
    assert num_left == 0
    assert result.code == pytest.ExitCode.INTERRUPTED
    assert result.verdicts() == {"tiny/numpy-mean/2/cpu": "equivalent"}
    assert result.info["exit_status"] == 2
    assert "interrupted" in (result.run / "index.html").read_text()
    assert f"report: reports/{result.run.name}/index.html" in result.text
    assert project.scratch_left() == []


def test_a_signal_reaches_the_workers_of_a_distributed_run(tmp_path: Path) -> None:
    project = Project(tmp_path, THEN_HANG, HANGING)
    # A terminal sends Ctrl-C to every process of its group; a supervisor sends SIGTERM to one.
    result, num_left = interrupted(project, signal.SIGTERM, "-n", "2")
    assert num_left == 0
    assert result.code == pytest.ExitCode.INTERRUPTED
    assert result.verdicts() == {"tiny/numpy-mean/2/cpu": "equivalent"}
    assert (result.run / "index.html").exists()
    assert project.scratch_left() == []


@pytest.mark.parametrize("arguments", [(), ("-n", "2")])
def test_after_a_kill_nothing_runs_and_the_records_can_be_read(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    project = Project(tmp_path, THEN_HANG, HANGING)
    result, num_left = interrupted(project, signal.SIGKILL, *arguments)
    assert num_left == 0
    assert result.code == -signal.SIGKILL
    assert result.verdicts() == {"tiny/numpy-mean/2/cpu": "equivalent"}
    assert result.info["ended"] == ""
    # The next session sweeps up behind it: see test_scratch.py.
    assert len(project.scratch_left()) == 1


def test_a_signal_before_the_first_case_leaves_an_empty_report(tmp_path: Path) -> None:
    before = """
import os, signal
def pytest_runtestloop(session):
    os.kill(os.getpid(), signal.SIGTERM)
"""
    project = Project(tmp_path, PARITY, CONFTEST + before)
    result = project.run(*ONE)
    assert result.code == pytest.ExitCode.INTERRUPTED
    assert result.records == []
    assert "interrupted" in (result.run / "index.html").read_text()
    assert project.scratch_left() == []


def test_a_signal_during_collection_ends_the_run_with_nothing_to_report(tmp_path: Path) -> None:
    project = Project(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n" + PARITY)
    result = project.run(*ONE)
    assert result.code == pytest.ExitCode.INTERRUPTED
    assert not result.reports.exists()


def test_signals_while_the_report_is_written_wait_for_it(tmp_path: Path) -> None:
    during = """
import os, signal
from harness import report
write = report.write
def interrupted(folder, **chosen):
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    return write(folder, **chosen)
report.write = interrupted
"""
    project = Project(tmp_path, PARITY, CONFTEST + during)
    result = project.run(*ONE)
    assert result.code == pytest.ExitCode.INTERRUPTED
    assert "1 passed" in result.text
    assert result.verdicts() == {"tiny/numpy-mean/2/cpu": "equivalent"}
    assert (result.run / "index.html").exists()
    assert project.scratch_left() == []


def test_a_forked_child_of_a_test_dies_of_sigterm_as_ever(tmp_path: Path) -> None:
    tests = """
import os, signal
def test_child(case):
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
"""
    assert "1 passed" in Project(tmp_path, tests).run(*ONE).text
