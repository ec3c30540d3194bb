"""Every verdict carries its power: which small bugs the check of this very case tells from the sound training."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from harness import Case, Workload, mutants, workloads
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
