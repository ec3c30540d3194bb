"""What ranks leave running: it is found, named and ended, and so is everything when somebody above is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness.launchers.local import Group, Pool, RankFailure

Fail = Callable[..., RankFailure]
MakeGroup = Callable[..., Group]
FIXTURES = Path(__file__).parents[3] / "fixtures"


@pytest.mark.parametrize("guilty", [0, 1])
@pytest.mark.parametrize("behaviour", ["leaves a daemon", "starts a program"])
def test_a_process_left_behind_by_a_case_that_went_well_is_a_failure_of_its_rank(
    failure_of: Fail, behaviour: str, guilty: int
) -> None:
    failure = failure_of("behave", guilty=guilty, behaviour=behaviour)
    assert (failure.rank, failure.kind) == (guilty, "stray")
    assert failure.cause.startswith("left process ")
    assert ("sleep 3600" in failure.cause) == (behaviour == "starts a program")


def test_helpers_of_a_rank_that_failed_are_ended_without_further_ado(failure_of: Fail) -> None:
    # The fixture that looks for processes after every test is what holds this.
    assert failure_of("behave", family="torch", guilty=1, behaviour="is killed with workers").kind == "signal"


def test_a_program_that_ends_shortly_after_its_rank_is_forgiven(pool: Pool, group: MakeGroup) -> None:
    assert pool.run([group("behave", guilty=1, behaviour="starts a short program")], timeout_s=30)


def test_leaving_a_session_early_ends_its_ranks(pool: Pool, group: MakeGroup) -> None:
    with contextlib.suppress(LookupError), pool.open([group("timed")], timeout_s=30) as session:
        session.epoch(0)
        raise LookupError
    assert pool.run([group("ok")], timeout_s=30)


# -- somebody above the ranks is killed ------------------------------------------------------------------------------

SCRIPT = """
import sys
from harness.launchers.local import Group, Pool
from harness.spec import Job, Workload

directory, behaviour = sys.argv[1:]
workload = Workload(name="tiny", model="none", dataset="none")
jobs = tuple(
    Job(function="rank_behaviours:behave_and_hang", strategy="s", workload=workload, rank=rank, world_size=2,
        directory=directory, options={"guilty": 1, "behaviour": behaviour})
    for rank in range(2)
)
pool = Pool(lambda family: ("torch", "torch.utils.data") if "workers" in behaviour else ())
heard = []
def tell(index, message):
    heard.append(message)
    if sum(type(one).__name__ == "Ready" for one in heard) == 2:
        print("both are there", flush=True)
try:
    pool.run([Group(family="plain", jobs=jobs)], timeout_s=60, on_event=tell)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise
"""


@pytest.fixture
def marked(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a script that runs ranks until it is killed; all its processes carry a mark in their environment."""
    mark = f"LOCKSTEP_TEST_{uuid.uuid4().hex}"
    path = os.pathsep.join([str(FIXTURES), str(FIXTURES.parent)])
    started: list[subprocess.Popen[str]] = []

    def start(behaviour: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path), behaviour],
            env=os.environ | {mark: "1", "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "both are there\n"
        assert len(_marked(mark)) >= 5, "the script, a guardian, a zygote, two ranks"
        return process

    yield start
    process = started[0]
    process.communicate(timeout=30)
    deadline = time.monotonic() + 20
    while (left := _marked(mark)) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=0.05)
    for one in left:
        one.kill()
    assert not left, "processes outlived the script"


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if mark in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


Start = Callable[[str], subprocess.Popen[str]]
HELPERS = ["nothing", "leaves a daemon", "keeps workers"]


@pytest.mark.parametrize("behaviour", HELPERS)
def test_nothing_outlives_a_pytest_that_is_killed(marked: Start, behaviour: str) -> None:
    marked(behaviour).kill()


def test_nothing_outlives_a_pytest_that_is_terminated(marked: Start) -> None:
    marked("leaves a daemon").terminate()


def test_ctrl_c_ends_the_ranks_and_goes_on_to_pytest(marked: Start) -> None:
    process = marked("leaves a daemon")
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert output == "interrupted\n"
    assert "KeyboardInterrupt" in errors
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("behaviour", HELPERS)
def test_nothing_outlives_a_zygote_that_is_killed(marked: Start, behaviour: str) -> None:
    process = marked(behaviour)
    guardian = psutil.Process(process.pid).children()[0]
    zygote = guardian.children()[0]
    zygote.kill()
    _output, errors = process.communicate(timeout=30)
    assert f"the plain zygote (pid {zygote.pid}) was killed by SIGKILL, and its ranks with it" in errors


def test_a_guardian_that_is_killed_takes_zygote_and_ranks_along(marked: Start) -> None:
    process = marked("nothing")
    psutil.Process(process.pid).children()[0].kill()
    _output, errors = process.communicate(timeout=30)
    assert "was ended as its guardian was killed by SIGKILL" in errors
