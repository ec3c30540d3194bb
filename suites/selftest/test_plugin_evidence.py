"""From a pytest run to a verdict on another machine, by command lines alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from plugin_project import CONFTEST, ONE, PARITY, TIMING, Project, Result

from harness import store
from harness.evidence.keeping import FOLDER, TABLES

WRONG = CONFTEST + 'numpy_strategies.misbehaving("sum")\n'
NO_ROOM = (
    CONFTEST
    + """
import errno
from harness.evidence import keeping

def full(_file, _kept):
    raise OSError(errno.ENOSPC, "No space left on device")

keeping._copy = full
"""
)


def harness(project: Project, *arguments: str) -> tuple[int, str]:
    """Run a command of the harness in a project's folder; return its status and what it said."""
    ended = subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("evidence"), PARITY + TIMING, WRONG)


@pytest.fixture(scope="module")
def kept(project: Project) -> Result:
    # Two workers write to one folder.
    return project.run(
        "--ls-workload=tiny",
        "--ls-world-size=2",
        "--ls-device=cpu",
        "--ls-keep-traces",
        "-n2",
        "-k",
        "numpy and parity",
    )


def test_every_judged_case_leaves_its_traces_in_the_run_whichever_worker_ran_it(kept: Result) -> None:
    assert kept.verdicts() == {"tiny/numpy-mean/2/cpu": "equivalent", "tiny/numpy-sum/2/cpu": "different"}
    assert all((kept.run / record.traces).is_file() for record in kept.records)
    assert len({record.traces for record in kept.records}) == 2
    assert len(list((kept.run / TABLES).glob("*.npy"))) > 10


def test_a_run_is_packed_judged_elsewhere_and_agrees(kept: Result, project: Project, tmp_path: Path) -> None:
    bundle, reports = str(tmp_path / "run.lockstep"), str(tmp_path / "reports")
    status, told = harness(project, "bundle", kept.run.name, "-o", bundle)
    assert status == 0, told
    assert "2 cases, 2 can be judged again" in told
    status, told = harness(project, "judge", bundle, "--ls-report-dir", reports)
    assert status == 0, told
    assert "2 agree, 0 disagree, 0 not judged again" in told
    verdicts = {record.case: record.verdict for record in store.read("latest", reports).records}
    assert verdicts == kept.verdicts()


def test_the_traces_of_a_timed_case_are_kept_too(project: Project) -> None:
    result = project.run(*ONE, "--ls-keep-traces", "-k", "timing", "--ls-report-dir=timed")
    (folder,) = (project.folder / "timed").iterdir()
    (record,) = store.read(folder).records
    assert record.timing is not None, result.text
    assert (folder / record.traces).is_file()


def test_without_the_option_nothing_is_kept(project: Project) -> None:
    project.run(*ONE, "-k", "parity", "--ls-report-dir=plain")
    (folder,) = (project.folder / "plain").iterdir()
    assert not (folder / FOLDER).exists()
    assert [record.traces for record in store.read(folder).records] == [""]


def test_where_no_more_fits_the_verdict_survives_and_the_loss_is_told(tmp_path: Path) -> None:
    result = Project(tmp_path, PARITY, NO_ROOM).run(*ONE, "--ls-keep-traces")
    assert result.verdicts() == {"tiny/numpy-mean/2/cpu": "equivalent"}
    assert "of 1 judged case the traces were not kept: No space left on device" in result.text
    assert result.code == pytest.ExitCode.TESTS_FAILED
