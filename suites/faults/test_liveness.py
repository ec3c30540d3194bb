"""Ranks that stop taking part: who is to blame is told, and where every rank stood."""

from __future__ import annotations

import dataclasses

import pytest

from harness import Case, workloads
from harness.launchers.local import RankFailure
from harness.runner import Runner
from harness.spec import Fault

pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]
HANG_S = 5.0


def failure(runner: Runner, strategy: str, fault: str) -> RankFailure:
    """Return what is said of a case in which ranks fail."""
    case = Case(workload="digits-mlp", strategy=strategy, world_size=2)
    impatient = Runner(dataclasses.replace(runner.settings, timeout_s=HANG_S), runner.pool, runner.trainings.kept)
    runner = impatient if fault == "rank-hangs" else runner
    with pytest.raises(RankFailure) as raised:
        runner.verdict(case, workloads.get(case.workload), Fault(name=fault))
    return raised.value


@pytest.mark.parametrize(("strategy", "waits_in"), [("torch-ddp", "backward"), ("torch-tp", "wait_tensor")])
def test_the_rank_that_hangs_is_named_with_the_stacks_of_all(strategy: str, waits_in: str, ls_runner: Runner) -> None:
    """Tensor parallelism waits in an operator: its stack ends outside of the communication library."""
    seen = failure(ls_runner, strategy, "rank-hangs")
    assert (seen.rank, seen.kind) == (1, "hang")
    own, peer = (next(stack for label, stack in seen.stacks.items() if f"rank {rank}" in label) for rank in (1, 0))
    assert "liveness.py" in own
    assert waits_in in peer
    assert f"rank {seen.rank} hung: no progress for 5 s, last step 1" in str(seen)
    assert str(seen).count("stack of ") >= 2


def test_ranks_that_call_different_collectives_are_told_to_compare_their_stacks(ls_runner: Runner) -> None:
    """None of the two is to blame for sure."""
    seen = failure(ls_runner, "torch-ddp", "collective-order")
    assert "was killed by SIGABRT" in seen.cause
    assert "the ranks called different collectives" in str(seen)
    assert str(seen).count("in average\n") >= 2


def test_the_rank_that_raised_is_named_and_its_peer_is_a_victim(ls_runner: Runner) -> None:
    seen = failure(ls_runner, "torch-ddp", "rank-raises")
    assert (seen.rank, seen.kind, seen.cause) == (1, "exception", "raised FloatingPointError: the loss is not a number")
    assert "rank 0" in "".join(seen.others)
