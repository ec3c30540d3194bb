"""What the ranks of a case printed is in its record: of a sound case, of one whose rank fails or dies."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_project import CONFTEST, PARITY, TIMING, Project, Result

from harness.record import Log, Record

# Ranks find the strategies in this module by its name.
TALKING = """
import os

from numpy_strategies import mean, parallel_gradient

from harness import strategy

NUMPY = {
    "framework": "plain",
    "requires": (),
    "backends": {"cpu": "pipes"},
    "reference_of": "plain-serial",
    "world_sizes": (2, 3),
}


@strategy("numpy-talks", **NUMPY)
def talks(job):
    print(f"rank {job.rank} of {job.world_size} says hello")
    return mean(job)


@strategy("numpy-last-words", **NUMPY)
def last_words(job):
    print(f"rank {job.rank} begins")
    if job.rank == 1:
        print("x" * 100_000)
        print("these are my last words")
        os._exit(3)
    return mean(job)


@strategy("numpy-silent-death", **NUMPY)
def silent_death(job):
    if job.rank == 0:
        os.abort()
    return mean(job)


@strategy("numpy-dies-timed", **NUMPY)
def dies_timed(job):
    print(f"{job.purpose} of rank {job.rank}")
    if job.purpose == "timing" and job.rank == 1:
        os._exit(3)
    return mean(job)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("logs"), PARITY + TIMING, CONFTEST + "import talking\n")
    made.write("talking.py", TALKING)
    return made


@pytest.fixture(scope="module")
def result(project: Project) -> Result:
    chosen = "(numpy and parity) or (numpy-dies-timed and not 3)"
    return project.run("--ls-workload=tiny", "--ls-device=cpu", "-k", chosen, PYTHONPATH=_path(project))


def _path(project: Project) -> str:
    return f"{project.folder}:{project.environment['PYTHONPATH']}"


def record_of(result: Result, strategy: str, world_size: int = 2) -> Record:
    (found,) = (
        r for r in result.records if (r.strategy, r.world_size) == (strategy, world_size) and "parity" in r.test
    )
    return found


def whole(result: Result, log: Log) -> Path:
    return result.run / log.path


def test_what_sound_ranks_print_is_recorded_of_every_one_of_them(result: Result) -> None:
    for world_size in (2, 3):
        record = record_of(result, "numpy-talks", world_size)
        assert record.verdict == "equivalent"
        assert [log.who for log in record.logs] == [f"rank {rank}" for rank in range(world_size)]
        for rank, log in enumerate(record.logs):
            assert f"rank {rank} of {world_size} says hello" in log.text
            assert log.num_bytes >= len(log.text)
            assert (log.stack, log.path) == ("", "")


def test_of_silent_ranks_it_is_recorded_that_they_printed_nothing(result: Result) -> None:
    logs = record_of(result, "numpy-mean").logs
    assert [(log.who, log.text, log.num_bytes) for log in logs] == [("rank 0", "", 0), ("rank 1", "", 0)]


def test_a_rank_that_dies_is_told_of_first_and_its_whole_output_kept(result: Result) -> None:
    record = record_of(result, "numpy-last-words")
    assert record.failed
    guilty, peer = record.logs
    assert (guilty.who, peer.who) == ("rank 1", "rank 0")
    assert guilty.text.startswith("rank 1 begins")
    assert guilty.text.endswith("these are my last words")
    assert len(guilty.text) < 20_000 < guilty.num_bytes
    assert not Path(guilty.path).is_absolute(), "a run may be moved"
    assert whole(result, guilty).stat().st_size == guilty.num_bytes
    assert "rank 0 begins" in peer.text
    assert whole(result, peer).is_file()


def test_where_the_peers_of_a_dead_rank_stood_is_recorded_too(result: Result) -> None:
    guilty, *peers = record_of(result, "numpy-silent-death", 3).logs
    assert (guilty.who, guilty.num_bytes) == ("rank 0", 0)
    assert "Fatal Python error: Aborted" in guilty.stack
    assert [peer.who for peer in peers] == ["rank 1", "rank 2"]
    assert all(peer.stack for peer in peers)


def test_the_path_in_the_message_outlives_the_session(result: Result, project: Project) -> None:
    assert project.scratch_left() == []
    record = record_of(result, "numpy-last-words")
    assert str(whole(result, record.logs[0])) in record.reason


def test_a_rank_that_dies_while_it_is_timed_is_told_of_with_what_it_printed_then(result: Result) -> None:
    (record,) = (r for r in result.records if r.strategy == "numpy-dies-timed" and "timing" in r.test)
    assert record.verdict == "equivalent"
    assert "not timed" in record.reason
    assert [log.who for log in record.logs] == ["rank 1", "rank 0"]
    assert record.logs[0].text == "timing of rank 1"
    assert whole(result, record.logs[0]).read_text() == "timing of rank 1\n"
    assert "parity of rank 1" in record_of(result, "numpy-dies-timed").logs[1].text
