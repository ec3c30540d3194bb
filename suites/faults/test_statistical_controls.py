"""What is judged over paired seeds: a reduction that only loses precision passes, one that is wrong does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

import msgspec
import pytest
from wrong_strategies import declared

from harness import Case, Job, Trace, Verdict, workloads
from harness.errors import TraceError
from harness.record import Rung, StatisticsName
from harness.runner import Runner
from harness.spec import Fault

pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]


def reducing(job: Job, reduce: Callable[[Any, int], Any]) -> tuple[Trace, ...]:
    """Train with ``reduce(gradient of this rank, step)`` in place of the average over the ranks."""
    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    step = -1

    def synchronise(optimizer: Any) -> None:
        nonlocal step
        step += 1
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = reduce(parameter.grad, step)

    with process_group(job) as group:
        return fit(job, Parallelism(comm=group, synchronise=synchronise, starts_equal=True))


def total(gradient: Any) -> Any:
    import torch.distributed as dist

    dist.all_reduce(gradient)
    return gradient


def rounds_to_half(job: Job) -> tuple[Trace, ...]:
    return reducing(job, lambda gradient, _: total((gradient / job.world_size).half()).to(gradient.dtype))


def sums(job: Job) -> tuple[Trace, ...]:
    return reducing(job, lambda gradient, _: total(gradient))


def leaves_out_the_last_rank(job: Job) -> tuple[Trace, ...]:
    last = job.rank == job.world_size - 1
    return reducing(job, lambda gradient, _: total(gradient * (not last)) / job.world_size)


def takes_rank_0(job: Job) -> tuple[Trace, ...]:
    return reducing(job, lambda gradient, _: total(gradient * (job.rank == 0)))


def never_reduces(job: Job) -> tuple[Trace, ...]:
    return reducing(job, lambda gradient, _: gradient)


def loses_a_rank_later(job: Job) -> tuple[Trace, ...]:
    return reducing(job, lambda gradient, step: total(gradient * (step < 2 or job.rank == 0)) / job.world_size)


def sums_later(job: Job) -> tuple[Trace, ...]:
    return reducing(job, lambda gradient, step: total(gradient) / (1 if step else job.world_size))


def hides_the_gradients_of_rank_1(job: Job) -> tuple[Trace, ...]:
    rung: Rung = "gradients before clipping"
    (trace,) = sums(job)
    if job.rank == 0:
        return (trace,)
    rest = {at: file for at, file in trace.rungs.items() if at != rung}
    return (msgspec.structs.replace(trace, rungs=rest, not_shown=trace.not_shown | {rung: "no hook"}),)


WRONG = (
    sums,
    leaves_out_the_last_rank,
    takes_rank_0,
    never_reduces,
    loses_a_rank_later,
    sums_later,
    hides_the_gradients_of_rank_1,
)


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    with declared(rounds_to_half, *WRONG, equality="statistical"):
        yield


def judged(runner: Runner, name: str, workload: str = "digits-mlp", fault: Fault | None = None) -> Verdict:
    return runner.verdict(Case(workload=workload, strategy=name, world_size=2), workloads.get(workload), fault)


@pytest.mark.parametrize("workload", ["digits-mlp", "digits-cnn-adamw-clipped"])
def test_gradients_rounded_to_float16_train_as_well(workload: str, ls_runner: Runner) -> None:
    verdict = judged(ls_runner, "rounds_to_half", workload)
    assert verdict.equivalent, verdict
    assert {found.name for found in verdict.statistics} == set(get_args(StatisticsName))


@pytest.mark.parametrize("workload", ["digits-mlp", "synthetic-mlp"])
@pytest.mark.parametrize("name", ["sums", "leaves_out_the_last_rank", "takes_rank_0"])
def test_a_wrong_average_shows_in_the_first_gradient(name: str, workload: str, ls_runner: Runner) -> None:
    """Under AdamW these train on to the same loss, within 0.1 % of what is gained: no loss would show them."""
    verdict = judged(ls_runner, name, workload)
    assert verdict.conclusion == "different", verdict
    assert verdict.divergence is not None
    assert (verdict.divergence.rung, verdict.divergence.step) == ("gradients before clipping", 0)


def test_ranks_that_train_each_for_itself_are_different(ls_runner: Runner) -> None:
    assert judged(ls_runner, "never_reduces").conclusion == "different"


def test_a_bug_that_begins_after_the_first_step_shows_in_the_losses(ls_runner: Runner) -> None:
    verdict = judged(ls_runner, "loses_a_rank_later")
    assert verdict.conclusion == "different", verdict
    assert verdict.divergence is None
    assert len(verdict.statistics[0].seeds) >= 5


@pytest.mark.parametrize("workload", ["digits-mlp", "digits-mlp-adam", "digits-cnn-adamw-clipped"])
def test_a_sum_that_begins_after_the_first_step_shows_in_the_gradients_length(workload: str, ls_runner: Runner) -> None:
    """Adam divides by the gradient's length, so that no loss shows it; SGD trains on as well with twice the rate."""
    verdict = judged(ls_runner, "sums_later", workload)
    assert verdict.conclusion == "different", verdict
    assert verdict.divergence is None
    assert "log gradient length" in verdict.reason


def test_a_rank_cannot_hide_the_gradients_that_another_shows(ls_runner: Runner) -> None:
    with pytest.raises(TraceError, match="'gradients before clipping': neither shown nor declared by rank 1"):
        judged(ls_runner, "hides_the_gradients_of_rank_1", "digits-cnn-adamw-clipped")


def test_an_injected_bug_is_found_beneath_the_rounding(ls_runner: Runner) -> None:
    for name in ("wrong-shard", "no-broadcast"):
        verdict = judged(ls_runner, "rounds_to_half", fault=Fault(name=name))
        assert verdict.conclusion == "different", (name, verdict)
