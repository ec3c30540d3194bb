"""Which mutants a case has, and whose trace is whose."""

from __future__ import annotations

import msgspec
import pytest

from harness import mutants, workloads
from harness.errors import TraceError
from harness.record import RungFile, Tensor, Trace
from harness.spec import Case, Fault, Mutant, Optimizer, Workload
from harness.strategies import base as strategies


@pytest.fixture(autouse=True)
def _discovered() -> None:
    strategies.discover()


def of(workload: Workload, strategy: str = "torch-ddp", world_size: int = 2, last: int = 6) -> set[str]:
    case = Case(workload=workload.name, strategy=strategy, world_size=world_size)
    found = mutants.of(case, workload, strategies.get(strategy), last=last)
    return {mutant.fault.name for mutant in found if mutant.fault is not None}


def test_a_mutant_that_changes_nothing_under_a_workload_is_left_out() -> None:
    workload = workloads.get("digits-mlp")
    forgetful = msgspec.structs.replace(workload, optimizer=Optimizer(momentum=0.0))
    assert "lost-momentum" in of(workload)
    assert "lost-momentum" not in of(forgetful)
    assert "unsynchronised-buffers" not in of(workload)
    assert "unsynchronised-buffers" in of(workloads.get("digits-mnist-cnn"))


def test_a_strategy_of_which_a_process_cannot_train_twice_has_one_with_ranks_of_its_own() -> None:
    assert not strategies.get("tf-multiworker").repeats
    assert of(workloads.get("digits-mlp"), "tf-multiworker") == {"sum-for-mean"}


def test_the_sound_training_once_more_comes_last() -> None:
    case = Case(workload="digits-mlp", strategy="torch-ddp", world_size=2)
    found = mutants.of(case, workloads.get("digits-mlp"), strategies.get("torch-ddp"), last=6)
    assert [mutant.fault is None for mutant in found] == [False] * (len(found) - 1) + [True]
    assert (found[-1].name, found[-1].num_steps) == ("no fault", 3)


def test_traces_that_do_not_divide_are_refused() -> None:
    with pytest.raises(TraceError, match="as many traces of each of 2 processes and 2 trainings but got 3 in all"):
        mutants.apart([Trace(rank=0)] * 3, num_processes=2, num_mutants=1)


def test_one_rank_has_none() -> None:
    assert of(workloads.get("digits-mlp"), world_size=1) == set()


def test_a_mutant_runs_until_it_acts_and_no_longer() -> None:
    case = Case(workload="digits-mlp", strategy="torch-ddp", world_size=2)
    found = mutants.of(case, workloads.get("digits-mlp"), strategies.get("torch-ddp"), last=6)
    steps = {mutant.fault.name: mutant.num_steps for mutant in found if mutant.fault is not None}
    assert (steps["sum-for-mean"], steps["stale-gradients"], steps["lost-momentum"]) == (1, 2, 3)
    assert "lost-momentum" not in of(workloads.get("digits-mlp"), last=2)


def test_traces_of_every_process_come_apart_into_the_case_and_its_mutants() -> None:
    told = [Trace(rank=rank, losses=(float(number),)) for rank in (0, 1) for number in (0, 1, 2)]
    own, first, second = mutants.apart(told, num_processes=2, num_mutants=2)
    assert [(trace.rank, trace.losses) for trace in own] == [(0, (0.0,)), (1, (0.0,))]
    assert [(trace.rank, trace.losses) for trace in first] == [(0, (1.0,)), (1, (1.0,))]
    assert [(trace.rank, trace.losses) for trace in second] == [(0, (2.0,)), (1, (2.0,))]


def test_one_process_may_tell_of_all_its_replicas_each_time() -> None:
    told = [Trace(rank=rank, losses=(float(number),)) for number in (0, 1) for rank in (0, 1)]
    own, mutant = mutants.apart(told, num_processes=1, num_mutants=1)
    assert [trace.losses[0] for trace in own] == [0.0, 0.0]
    assert [trace.losses[0] for trace in mutant] == [1.0, 1.0]


def test_the_first_steps_of_a_trace_are_a_view_without_predictions() -> None:
    tensors = (Tensor(name="w", shape=(2,)),)
    rungs = {
        "parameters": RungFile(file="p.npy", steps=(-1, 0, 1, 2), tensors=tensors),
        "predictions": RungFile(file="o.npy", steps=(2,), tensors=tensors),
    }
    cut = mutants.first_steps(Trace(rank=0, rungs=rungs), 2)  # type: ignore[arg-type]
    assert set(cut.rungs) == {"parameters"}
    assert (cut.rungs["parameters"].steps, cut.rungs["parameters"].num_rows) == ((-1, 0, 1), 4)


def test_a_mutant_is_named_with_its_settings() -> None:
    assert Mutant(fault=Fault(name="sum-for-mean"), num_steps=1).name == "sum-for-mean"
    partial = Mutant(fault=Fault(name="sum-for-mean", settings={"tensor": "last", "rank": -1}), num_steps=1)
    assert partial.name == "sum-for-mean[tensor=last, rank=-1]"
