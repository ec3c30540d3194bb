"""Ranks that behave: what they get, and what comes back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from harness.launchers.local import Group, Pool, RankFailure
from harness.wire import Done, Message, Step, Up

MakeGroup = Callable[..., Group]


def test_traces_come_back_for_every_group_in_the_order_of_ranks(pool: Pool, group: MakeGroup) -> None:
    results = pool.run([group("ok", 3), group("steps", 1)], timeout_s=30)
    assert [[trace.rank for trace in traces] for traces in results] == [[0, 1, 2], [0]]


def test_every_run_has_fresh_processes(pool: Pool, group: MakeGroup) -> None:
    pids = [trace.notes for _ in range(3) for trace in pool.run([group("ok")], timeout_s=30)[0]]
    assert len(set(pids)) == 6


def test_a_rank_sees_the_jobs_cores_threads_and_environment_and_pytests_own_surroundings(
    pool: Pool, group: MakeGroup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    core = min(os.sched_getaffinity(0))
    pool.warm("plain")
    asked = group("surroundings", 1)
    job = msgspec.structs.replace(asked.jobs[0], cpus=(core,), num_threads=3, environment={"LOCKSTEP_TEST": "yes"})
    trace = pool.run([Group(family="plain", jobs=(job,))], timeout_s=30)[0][0]
    assert trace.notes == (f"[{core}]", "yes", "3", str(tmp_path), "3")


def test_cores_that_do_not_exist_are_told_before_anything_runs(pool: Pool, group: MakeGroup) -> None:
    job = msgspec.structs.replace(group("ok", 1).jobs[0], cpus=(4095,))
    with pytest.raises(RankFailure, match=r"expected cores among \[.*\] but the job asks for \[4095\]"):
        pool.run([Group(family="plain", jobs=(job,))], timeout_s=30)


def test_events_tell_which_process_has_come_how_far(pool: Pool, group: MakeGroup) -> None:
    heard: list[tuple[int, Message]] = []
    pool.run([group("steps"), group("ok", 1)], timeout_s=30, on_event=lambda index, event: heard.append((index, event)))
    assert [event.step for index, event in heard if index == 1 and isinstance(event, Step)] == [0, 1, 2]
    assert {index for index, event in heard if isinstance(event, Up)} == {0, 1, 2}
    assert {index for index, event in heard if isinstance(event, Done)} == {0, 1, 2}


def test_an_error_of_the_listener_ends_the_ranks_and_goes_on(pool: Pool, group: MakeGroup) -> None:
    def refuse(_index: int, _event: Message) -> None:
        raise LookupError("not now")

    with pytest.raises(LookupError, match="not now"):
        pool.run([group("behave", guilty=1, behaviour="hangs")], timeout_s=30, on_event=refuse)
    assert pool.run([group("ok")], timeout_s=30)


def test_each_rank_writes_to_a_log_of_its_own(pool: Pool, group: MakeGroup, tmp_path: Path) -> None:
    pool.run([group("behave", guilty=9, behaviour="raises")], timeout_s=30)
    assert [(tmp_path / "behave" / f"rank{rank}.log").read_text() for rank in range(2)] == [
        "rank 0 speaking\n",
        "rank 1 speaking\n",
    ]


def test_a_rank_with_persistent_loader_workers_ends_them_as_a_normal_exit_would(pool: Pool, group: MakeGroup) -> None:
    results = pool.run([group("behave", family="torch", guilty=1, behaviour="keeps workers")], timeout_s=60)
    assert len(results[0]) == 2


def test_gloo_ranks_meet_and_finish(pool: Pool, group: MakeGroup) -> None:
    results = pool.run([group("behave_in_gloo", family="torch", guilty=9, behaviour="raises")], timeout_s=60)
    assert len(results[0]) == 2
