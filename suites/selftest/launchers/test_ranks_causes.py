"""Ranking causes, without processes: in whatever order the news comes, the rank that caused the others' is named."""

from __future__ import annotations

import itertools
import signal

import pytest

from harness.launchers.causes import Sighting, explain, is_collective
from harness.wire import Failed

GLOO = Failed(
    kind="RuntimeError",
    message="[pair.cc:561] Connection closed by peer [127.0.0.1]:25829",
    traceback='File "/site-packages/torch/distributed/distributed_c10d.py", line 1, in all_reduce',
)
BUG = Failed(kind="ValueError", message="no", traceback="Traceback ...")
WAITING = 'Current thread 0x1:\n  File "/site-packages/torch/distributed/distributed_c10d.py", line 7 in all_reduce\n'
OPERATOR = (
    'Current thread 0x1:\n  File "/site-packages/torch/_ops.py", line 7 in __call__\n'
    '  File "/site-packages/torch/distributed/_functional_collectives.py", line 7 in wait_tensor\n'
)
BACKWARD = 'Current thread 0x1:\n  File "/site-packages/torch/autograd/graph.py", line 7 in _engine_run_backward\n'
WORKING = (
    'Thread 0x2:\n  File "/site-packages/torch/distributed/x.py", line 1 in f\n\n'
    'Current thread 0x1:\n  File "/u.py", line 3 in load\n'
)


def _seen(rank: int, **facts: object) -> Sighting:
    return Sighting(case="w/s/3/cpu", label=f"rank {rank}", rank=rank, **facts)  # type: ignore[arg-type]


KILLED = {"code": -signal.SIGKILL, "at_s": 3.0}
EXITED = {"code": 3, "at_s": 3.0}
RAISED = {"failed": BUG, "code": 1, "at_s": 3.0}
ABORTED = {"code": -signal.SIGABRT, "at_s": 3.0}
VICTIM = {"failed": GLOO, "code": 1, "at_s": 1.0}
WAITS = {"stack": WAITING, "quiet_s": 9.0}


@pytest.mark.parametrize("cause", [KILLED, EXITED, RAISED, ABORTED], ids=["killed", "exited", "raised", "aborted"])
@pytest.mark.parametrize("guilty", [0, 1, 2])
def test_a_peers_earlier_news_never_hides_the_cause(cause: dict[str, object], guilty: int) -> None:
    for facts in itertools.permutations([VICTIM, WAITS]):
        others = iter(facts)
        sightings = [_seen(rank, **(cause if rank == guilty else next(others))) for rank in range(3)]
        assert explain(sightings, timed_out=None).rank == guilty


def test_a_signal_explains_an_exit_and_an_exit_an_exception() -> None:
    assert explain([_seen(0, **RAISED), _seen(1, **EXITED), _seen(2, **KILLED)], timed_out=None).rank == 2
    assert explain([_seen(0, **RAISED), _seen(1, **EXITED)], timed_out=None).rank == 1


def test_an_abort_after_a_peers_exception_is_its_consequence() -> None:
    late = {"code": -signal.SIGABRT, "at_s": 4.0}
    assert explain([_seen(0, **late), _seen(1, **RAISED)], timed_out=None).rank == 1


def test_without_another_cause_the_first_failed_collective_is_told() -> None:
    failure = explain([_seen(0, **VICTIM), _seen(1, **VICTIM | {"at_s": 0.5})], timed_out=None)
    assert (failure.rank, failure.kind) == (1, "collective")


def test_a_rank_that_never_came_is_blamed_for_a_collective_that_timed_out() -> None:
    failure = explain([_seen(0, **VICTIM), _seen(1, stack=WORKING, quiet_s=9.0, step=3)], timed_out=None)
    assert (failure.rank, failure.cause) == (1, "hung: no progress for 9 s, last step 3, in load (/u.py:3)")


@pytest.mark.parametrize("facts", [{"stack": WORKING, "quiet_s": 0.1}, WAITS, {"finished": True}, {"idle": True}])
def test_a_rank_at_work_waiting_or_done_is_not_blamed_for_a_failed_collective(facts: dict[str, object]) -> None:
    assert explain([_seen(0, **facts), _seen(1, **VICTIM)], timed_out=None).rank == 1


@pytest.mark.parametrize("waiting", [WAITING, BACKWARD, OPERATOR])
def test_of_hanging_ranks_the_one_that_waits_for_nobody_is_named(waiting: str) -> None:
    failure = explain([_seen(0, stack=waiting), _seen(1, stack=WORKING), _seen(2, stack=waiting)], timed_out=5.0)
    assert (failure.rank, failure.kind) == (1, "hang")
    assert failure.others[0].startswith("  rank 0 was in ")


def test_of_ranks_that_all_wait_the_one_behind_is_named() -> None:
    sightings = [_seen(0, stack=WAITING, step=4), _seen(1, stack=WAITING, step=3), _seen(2, stack=WAITING, step=4)]
    assert explain(sightings, timed_out=5.0).rank == 1


@pytest.mark.parametrize(
    ("kind", "message", "traceback", "expected"),
    [
        ("RuntimeError", "Connection closed by peer", GLOO.traceback, True),
        ("DistBackendError", "NCCL error in: remote process exited", "", True),
        ("HorovodInternalError", "", 'File "/site-packages/horovod/torch/mpi_ops.py", line 1', True),
        ("UnavailableError", "", 'File "/site-packages/tensorflow/python/eager/execute.py", line 1', True),
        ("ConnectionRefusedError", "[Errno 111]", 'File "mine/download.py", line 1', False),
        ("RuntimeError", "shapes do not match", GLOO.traceback, False),
        ("ValueError", "the peer shut down", GLOO.traceback, False),
        ("RuntimeError", "timed out", 'File "mine/loader.py", line 1', False),
    ],
)
def test_only_what_a_communication_library_says_of_a_peer_counts_as_its_failure(
    kind: str, message: str, traceback: str, expected: bool
) -> None:
    assert is_collective(Failed(kind=kind, message=message, traceback=traceback)) is expected


def test_an_unknown_signal_is_told_by_its_number() -> None:
    assert explain([_seen(0, code=-40, at_s=1.0)], timed_out=None).cause.startswith("was killed by signal 40")
