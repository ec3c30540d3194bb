"""Strategies that are wrong by themselves, as a user's may be: none may pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from wrong_strategies import declared

from harness import Case, Job, Trace, Workload, workloads
from harness.errors import TraceError
from harness.oracles.spread import NOTHING_SHARED
from harness.record import LADDER
from harness.recorder import Recorder
from harness.runner import Runner
from harness.timer import Timer

pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]


def averaging(job: Job, *, starts_equal: bool, stops: bool = False) -> tuple[Trace, ...]:
    """Average the gradients by hand and broadcast nothing; with ``stops``, only while equality is checked."""
    import torch.distributed as dist

    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    def average(optimizer: Any) -> None:
        if stops and job.purpose == "timing":
            return
        for parameter in optimizer.param_groups[0]["params"]:
            dist.all_reduce(parameter.grad)
            parameter.grad /= job.world_size

    with process_group(job) as group:
        return fit(job, Parallelism(comm=group, synchronise=average, starts_equal=starts_equal))


def forgets_broadcast(job: Job) -> tuple[Trace, ...]:
    return averaging(job, starts_equal=False)


def relies_on_seed(job: Job) -> tuple[Trace, ...]:
    return averaging(job, starts_equal=True)


def cheats_when_timed(job: Job) -> tuple[Trace, ...]:
    return averaging(job, starts_equal=True, stops=True)


def trains_on_rank_0(job: Job) -> tuple[Trace, ...]:
    from harness.loops.torch_loop import fit

    return fit(msgspec.structs.replace(job, world_size=1)) if job.rank == 0 else ()


def idle_rank_1(job: Job) -> tuple[Trace, ...]:
    """Let rank 0 train everything, and rank 1 say of everything that rank 0 holds it."""
    if job.rank == 0:
        return trains_on_rank_0(job)
    recorder = Recorder(job)
    recorder.holds_part(*LADDER)
    return recorder.traces()


def each_alone(job: Job) -> tuple[Trace, ...]:
    """Train every batch whole on every rank, and reduce nothing."""
    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    with process_group(job) as group:
        own = Parallelism(comm=group, share=(0, 1), tells_samples=job.rank == 0, starts_equal=True)
        return fit(job, own)


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    with declared(forgets_broadcast, relies_on_seed, cheats_when_timed, trains_on_rank_0, idle_rank_1, each_alone):
        yield


def case(name: str) -> tuple[Case, Workload]:
    return Case(workload="digits-mlp", strategy=name, world_size=2), workloads.get("digits-mlp")


def test_a_forgotten_broadcast_shows_before_the_first_step(ls_runner: Runner) -> None:
    verdict = ls_runner.verdict(*case("forgets_broadcast"))
    assert verdict.conclusion == "different"
    assert verdict.divergence is not None
    assert (verdict.divergence.rung, verdict.divergence.step, verdict.divergence.rank) == ("parameters", -1, 1)


def test_a_strategy_may_say_that_its_ranks_must_be_handed_equal_weights(ls_runner: Runner) -> None:
    assert ls_runner.verdict(*case("relies_on_seed")).equivalent


def test_a_rank_that_did_not_train_cannot_hide_behind_one_that_did(ls_runner: Runner) -> None:
    with pytest.raises(
        TraceError, match="expected one trace of rank 1 from the process of rank 1 but it told of ranks"
    ):
        ls_runner.verdict(*case("trains_on_rank_0"))


def test_a_rank_that_leaves_all_rungs_to_the_others_is_refused(ls_runner: Runner) -> None:
    with pytest.raises(TraceError, match="rank to show something of its training but rank 1 shows nothing in any rung"):
        ls_runner.verdict(*case("idle_rank_1"))


def test_ranks_that_each_train_everything_prove_nothing(ls_runner: Runner) -> None:
    verdict = ls_runner.verdict(*case("each_alone"))
    assert (verdict.conclusion, verdict.reason) == ("not-verified", NOTHING_SHARED)


def test_a_training_that_is_another_one_when_timed_shows_no_speed_up(ls_runner: Runner) -> None:
    own, workload = case("cheats_when_timed")
    short = msgspec.structs.replace(workload, epochs=2)
    verdict = ls_runner.verdict(own, short)
    assert verdict.equivalent
    timed = Timer(ls_runner).time(own, short, verdict).timing
    assert timed.speedup is None
    assert "it trains something else than what was checked" in (timed.struck or "")
    sound = Timer(ls_runner).time(*case("relies_on_seed"), ls_runner.verdict(*case("relies_on_seed"))).timing
    assert sound.speedup is not None
