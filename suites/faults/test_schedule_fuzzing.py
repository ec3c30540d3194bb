"""A race that the everyday schedule hides shows once the ranks' schedules are shaken; a sound strategy stays sound."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from wrong_strategies import declared

from harness import Case, Job, Trace, Workload, workloads
from harness.runner import Runner

pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]
# Longer than a small all-reduce takes, unless its peers come late.
HOPED_S = 0.02
TRIES, SEEDS = 5, 10


def hopes(job: Job) -> tuple[Trace, ...]:
    """Start to sum the gradients and go on after a moment, done or not."""
    import torch.distributed as dist

    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    started: list[Any] = []

    def average(optimizer: Any) -> None:
        gradients = [parameter.grad for parameter in optimizer.param_groups[0]["params"]]
        dist.barrier()  # however busy the machine is, they set off together
        started.extend(dist.all_reduce(gradient, async_op=True) for gradient in gradients)
        time.sleep(HOPED_S)  # the bug: it should be work.wait()
        for gradient in gradients:
            gradient.div_(job.world_size)

    with process_group(job) as group:
        return fit(job, Parallelism(comm=group, synchronise=average, starts_equal=True))


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    with declared(hopes):
        yield


def case(name: str) -> Case:
    return Case(workload="digits-mlp", strategy=name, world_size=2)


def tries() -> Iterator[Workload]:
    """Yield the same training from one seed after the other, since a verdict is remembered."""
    described = workloads.get("digits-mlp")
    return (msgspec.structs.replace(described, seed=seed) for seed in itertools.count())


def test_a_race_that_mostly_passes_is_caught_once_the_schedule_is_shaken(ls_runner: Runner) -> None:
    own = case("hopes")
    assert any(ls_runner.verdict(own, workload).equivalent for workload in itertools.islice(tries(), TRIES)), (
        "nobody waits long for a peer when nothing is delayed"
    )
    shaken = (ls_runner.shaken(seed).verdict(own) for seed in range(SEEDS))
    seen = next((verdict.divergence for verdict in shaken if verdict.conclusion == "different"), None)
    assert seen is not None, "one seed of ten at the least"
    assert seen.rung == "gradients before clipping", "where the race is"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_sound_strategy_is_equivalent_under_any_schedule(seed: int, ls_runner: Runner) -> None:
    assert ls_runner.shaken(seed).verdict(case("torch-ddp")).equivalent
