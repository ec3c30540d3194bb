"""Every verdict carries its power: which small bugs the check of this very case tells from the sound training."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from wrong_strategies import declared

from harness import Case, Job, Trace, Workload, mutants, workloads
from harness.runner import Runner
from harness.spec import Check, Fault

pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]


def trained(name: str) -> Workload:
    """A workload of this file's own, so that no other test has judged it before."""
    return Workload(name=name, model="mlp", dataset="digits")


@pytest.mark.parametrize("strategy", ["torch-ddp", "torch-fsdp", "torch-pp", "torchgpipe", "torch-threads"])
def test_an_equivalent_verdict_names_the_mutants_that_its_check_kills(strategy: str, ls_runner: Runner) -> None:
    workload = trained("powerful")
    verdict = ls_runner.verdict(Case(workload=workload.name, strategy=strategy, world_size=2), workload)
    assert verdict.equivalent, verdict
    assert verdict.power is not None
    assert {"sum-for-mean", "learning-rate-x-world", "lost-momentum"} <= set(verdict.power.killed)
    assert not verdict.power.survived


def test_running_statistics_have_a_mutant_of_their_own(ls_runner: Runner) -> None:
    workload = workloads.get("digits-mnist-cnn")
    few = msgspec.structs.replace(workload, name="normalised", check=Check(num_steps=4))
    verdict = ls_runner.verdict(Case(workload=few.name, strategy="torch-ddp", world_size=2), few)
    assert verdict.equivalent, verdict
    assert verdict.power is not None
    assert "unsynchronised-buffers" in verdict.power.killed


def test_a_check_that_cannot_kill_a_mutant_is_inconclusive(ls_runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    # It strikes an element that no tensor has: nothing changes, so that nothing can tell it.
    blind = Fault(name="sum-for-mean", settings={"element": 10**9})
    monkeypatch.setattr(mutants, "FAULTS", (*mutants.FAULTS, blind))
    workload = trained("powerless")
    verdict = ls_runner.verdict(Case(workload=workload.name, strategy="torch-ddp", world_size=2), workload)
    assert verdict.conclusion == "inconclusive", verdict
    assert verdict.power is not None
    assert verdict.power.survived == ("sum-for-mean[element=1000000000]",)
    assert "so is the same training with sum-for-mean[element=1000000000] injected" in verdict.reason


def grows(job: Job) -> tuple[Trace, ...]:
    """Average soundly the first time in a process, and half as much again from the second time on."""
    import torch.distributed as dist

    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    own = globals()
    own["_TRAININGS"] = own.get("_TRAININGS", 0) + 1
    factor = 1.0 if own["_TRAININGS"] == 1 else 1.5

    def average(optimizer: Any) -> None:
        for parameter in optimizer.param_groups[0]["params"]:
            dist.all_reduce(parameter.grad)
            parameter.grad *= factor / job.world_size

    with process_group(job) as group:
        return fit(job, Parallelism(comm=group, synchronise=average, starts_equal=True))


def stops_where_ranks_differ(job: Job) -> tuple[Trace, ...]:
    """Average soundly, and raise where the step before has left the ranks with other gradients."""
    import torch
    import torch.distributed as dist

    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    def update(optimizer: Any) -> None:
        for parameter in optimizer.param_groups[0]["params"]:
            first = parameter.grad.clone()
            dist.broadcast(first, 0)
            assert torch.equal(first, parameter.grad), "ranks have different gradients"
        optimizer.step()

    def average(optimizer: Any) -> None:
        for parameter in optimizer.param_groups[0]["params"]:
            dist.all_reduce(parameter.grad)
            parameter.grad /= job.world_size

    with process_group(job) as group:
        return fit(job, Parallelism(comm=group, synchronise=average, update=update, starts_equal=True))


@pytest.mark.parametrize("train", [grows, stops_where_ranks_differ])
def test_nothing_is_said_of_mutants_where_a_process_cannot_train_twice(train: Any, ls_runner: Runner) -> None:
    """The first is another training the second time, the second asserts what a mutant breaks: both are sound."""
    workload = trained("powerful")
    with declared(train, repeats=True, like="torch-ddp"):
        verdict = ls_runner.verdict(Case(workload=workload.name, strategy=train.__name__, world_size=2), workload)
    assert verdict.equivalent, verdict
    assert verdict.power is None


def test_a_training_that_is_resumed_keeps_the_power_of_its_first_leg(ls_runner: Runner) -> None:
    workload = msgspec.structs.replace(trained("resumed"), check=Check(resume_at=4))
    verdict = ls_runner.verdict(Case(workload=workload.name, strategy="torch-ddp", world_size=2), workload)
    assert verdict.equivalent, verdict
    assert verdict.power is not None
    assert "lost-momentum" in verdict.power.killed


def test_mutants_can_be_left_out(ls_runner: Runner) -> None:
    without = Runner(dataclasses.replace(ls_runner.settings, power=False), ls_runner.pool, ls_runner.trainings.kept)
    workload = trained("powerful")
    verdict = without.verdict(Case(workload=workload.name, strategy="torch-ddp", world_size=2), workload)
    assert verdict.equivalent, verdict
    assert verdict.power is None


def test_a_bug_is_told_without_mutants(ls_runner: Runner) -> None:
    workload = trained("powerful")
    case = Case(workload=workload.name, strategy="torch-ddp", world_size=2)
    verdict = ls_runner.verdict(case, workload, Fault(name="sum-for-mean"))
    assert verdict.conclusion == "different"
    assert verdict.power is None
