"""Ranks that fail, whichever they are: the right one is named, and why; the next run works."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from harness.launchers.local import Group, Pool, RankFailure

Fail = Callable[..., RankFailure]
RANKS = (0, 1)
BEHAVIOURS = {
    "raises": ("exception", "raised ValueError: the loss is not a number"),
    "exits": ("exit", "exited with code 3 (last step 1)"),
    "sys.exit": ("exception", "raised SystemExit: 5"),
    "is killed": ("signal", "was killed by SIGKILL (last step 1)"),
    "segfaults": ("signal", "was killed by SIGSEGV (last step 1)"),
    "aborts": ("exception", "was killed by SIGABRT (last step 1)"),
}


@pytest.mark.parametrize("guilty", RANKS)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_rank_that_fails_is_named_with_its_cause(failure_of: Fail, behaviour: str, guilty: int) -> None:
    failure = failure_of("behave", guilty=guilty, behaviour=behaviour)
    kind, cause = BEHAVIOURS[behaviour]
    assert (failure.rank, failure.kind, failure.cause) == (guilty, kind, cause)
    assert str(failure).startswith(f"tiny/behave/2/cpu: rank {guilty} {cause}\n")
    assert f"rank {guilty} speaking" in str(failure)


@pytest.mark.parametrize("guilty", RANKS)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_peer_whose_collective_failed_is_not_blamed(failure_of: Fail, behaviour: str, guilty: int) -> None:
    failure = failure_of("behave_in_gloo", family="torch", guilty=guilty, behaviour=behaviour)
    assert (failure.rank, failure.kind, failure.cause) == (guilty, *BEHAVIOURS[behaviour])
    assert len(failure.others) == 1
    assert failure.others[0].startswith(f"  rank {1 - guilty} ")


@pytest.mark.parametrize(("behaviour", "guilty"), [("hangs", 0), ("hangs", 1), ("hangs in C", 1)])
def test_a_rank_that_hangs_is_named_and_not_the_one_that_waits_for_it(
    failure_of: Fail, behaviour: str, guilty: int
) -> None:
    failure = failure_of("behave_in_gloo", family="torch", guilty=guilty, behaviour=behaviour, timeout_s=3)
    assert (failure.rank, failure.kind) == (guilty, "hang")
    assert failure.cause.startswith("hung: no progress for 3 s, last step 1, in _hangs")
    assert "rank_behaviours.py" in failure.stacks[f"rank {guilty}"]
    assert "all_reduce" in failure.stacks[f"rank {1 - guilty}"]
    assert f"stack of rank {1 - guilty}:" in str(failure)


def test_a_rank_stopped_by_a_signal_is_named(failure_of: Fail) -> None:
    failure = failure_of("behave_in_gloo", family="torch", guilty=0, behaviour="is stopped", timeout_s=3)
    assert (failure.rank, failure.kind) == (0, "hang")
    assert failure.cause.startswith("was stopped by a signal: no progress for 3 s, last step 1")


@pytest.mark.parametrize("guilty", RANKS)
def test_a_hang_of_a_rank_whose_peers_have_finished_is_its_own(failure_of: Fail, guilty: int) -> None:
    failure = failure_of("behave", guilty=guilty, behaviour="hangs", timeout_s=1)
    assert (failure.rank, failure.kind) == (guilty, "hang")
    assert failure.others == (f"  rank {1 - guilty} had finished",)


@pytest.mark.parametrize("guilty", RANKS)
def test_a_killed_rank_whose_loader_workers_keep_its_sockets_open_is_named(failure_of: Fail, guilty: int) -> None:
    failure = failure_of("behave_in_gloo", family="torch", guilty=guilty, behaviour="is killed with workers")
    assert (failure.rank, failure.cause) == (guilty, "was killed by SIGKILL (last step 1)")
    assert "all_reduce" in failure.others[0] or "raised" in failure.others[0]


@pytest.mark.parametrize("guilty", RANKS)
def test_a_thread_left_running_is_named_with_its_stack(failure_of: Fail, guilty: int) -> None:
    failure = failure_of("behave", guilty=guilty, behaviour="leaks a thread")
    assert failure.rank == guilty
    assert failure.cause == "left thread 'left over' running; join it before train() returns"
    assert "Thread 'left over':" in str(failure)
    assert "threading.py" in failure.stacks[f"rank {guilty}"]


def test_the_traceback_of_an_exception_and_the_stack_of_a_crash_are_shown(failure_of: Fail) -> None:
    raised = failure_of("behave", guilty=1, behaviour="raises")
    assert 'raise ValueError("the loss is not a number")' in str(raised)
    crashed = failure_of("behave", guilty=1, behaviour="segfaults")
    assert "Fatal Python error: Segmentation fault" in str(crashed)


def test_a_flood_of_output_neither_blocks_a_rank_nor_fills_the_report(failure_of: Fail) -> None:
    failure = failure_of("behave", guilty=0, behaviour="floods")
    assert failure.cause == "raised ValueError: after the flood"
    assert "the last words" in failure.logs["rank 0"]
    assert len(str(failure)) < 8_000


def test_the_guilty_training_is_named_where_several_run_side_by_side(pool: Pool, group: Callable[..., Group]) -> None:
    groups = [group("steps"), group("behave", guilty=1, behaviour="exits")]
    with pytest.raises(RankFailure) as caught:
        pool.run(groups, timeout_s=30)
    assert str(caught.value).startswith("tiny/behave/2/cpu: behave rank 1 exited with code 3")


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        ("returns_nothing", r"expected rank_behaviours:returns_nothing to return a tuple of Trace but got None"),
        ("says_nonsense", r"sent b'\{\"type\": \"hello\"\}', no message"),
        ("fills_packet", r"expected traces of at most 180000 bytes each but got one of 300\d+"),
        ("raises_much", r"raised ValueError: x{2000}"),
        ("is_not_there", r"expected a function at 'rank_behaviours:is_not_there'"),
    ],
)
def test_an_answer_that_is_none_is_the_ranks_failure(failure_of: Fail, function: str, cause: str) -> None:
    assert re.search(cause, str(failure_of(function)))
