"""Parameters that a rank does not use in a step: why strategies limit them, or differ with them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from wrong_strategies import declared

from harness import Case, Job, Trace, workloads
from harness.errors import RankError
from harness.runner import Runner

pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]
WORKLOAD = workloads.get("digits-routed-mlp")


def looks_for_none(job: Job) -> tuple[Trace, ...]:
    """DistributedDataParallel as it is by default."""
    from torch.nn.parallel import DistributedDataParallel

    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    with process_group(job) as group:
        return fit(job, Parallelism(wrap=DistributedDataParallel, comm=group))


def takes_zero_for_none(job: Job) -> tuple[Trace, ...]:
    """Gradients averaged by hand, a rank without one adding nothing: zero where nobody has one."""
    import torch
    import torch.distributed as dist

    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    def average(optimizer: torch.optim.Optimizer) -> None:
        for parameter in optimizer.param_groups[0]["params"]:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= job.world_size

    with process_group(job) as group:
        return fit(job, Parallelism(comm=group, synchronise=average, starts_equal=True))


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    with declared(looks_for_none, takes_zero_for_none):
        yield


def case(name: str) -> Case:
    return Case(workload=WORKLOAD.name, strategy=name, world_size=2)


def test_distributed_data_parallel_does_not_get_past_them_unless_it_looks_for_them(ls_runner: Runner) -> None:
    # The rank that lacks a gradient goes on to the next collective, in whose place the other reduces its bucket.
    with pytest.raises(RankError, match="Is there a distributed collective mismatch in your code"):
        ls_runner.verdict(case("looks_for_none"), WORKLOAD)


def test_a_gradient_of_zero_for_none_moves_what_nobody_used(ls_runner: Runner) -> None:
    verdict = ls_runner.verdict(case("takes_zero_for_none"), WORKLOAD)
    assert verdict.conclusion == "different"
    seen = verdict.divergence
    assert seen is not None
    assert (seen.rung, seen.step) == ("optimizer state", 3), verdict
    assert "routed.expert" in seen.tensor


def test_distributed_data_parallel_that_looks_for_them_is_equivalent(ls_runner: Runner) -> None:
    assert ls_runner.verdict(case("torch-ddp+find-unused"), WORKLOAD).equivalent
