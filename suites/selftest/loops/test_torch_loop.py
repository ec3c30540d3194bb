"""The loop in this process: what it records, and that sharding and accumulation do not change the maths."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="needs torch, which is not installed")

from harness import Optimizer, Schedule, Trace, Workload
from harness.loops.torch_loop import fit
from harness.record import Rung
from harness.recorder import read
from harness.spec import Arrangement, Check, Fault, Job

pytestmark = pytest.mark.torch
WORKLOAD = Workload(
    name="loop",
    model="mlp",
    dataset="synthetic",
    shape=(1, 8, 8),
    num_classes=4,
    num_samples=64,
    optimizer=Optimizer(name="sgd", learning_rate=0.1, momentum=0.9),
    schedule=Schedule(gamma=0.5),
    dropout=0.25,
    check=Check(num_samples=20, global_batch=8, num_held_out=10),
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def train(folder: Path, workload: Workload = WORKLOAD, **settings: object) -> Trace:
    folder.mkdir(exist_ok=True)
    job = Job(
        function="harness.strategies.torch_serial:train",
        strategy="torch-serial",
        workload=workload,
        directory=str(folder),
        cache=str(folder.parent),
    )
    (trace,) = fit(msgspec.structs.replace(job, **settings))
    return trace


def table(trace: Trace, rung: Rung) -> NDArray[np.float64]:
    return read(trace.rungs[rung]).astype(np.float64)


def test_every_rung_that_the_workload_has_is_recorded_at_every_step(tmp_path: Path) -> None:
    clipped = msgspec.structs.replace(WORKLOAD, clip_norm=0.1)
    trace = train(tmp_path / "a", clipped)
    steps = tuple(range(6))
    assert {rung: file.steps for rung, file in trace.rungs.items()} == {
        "data order": steps,
        "loss": steps,
        "gradients before clipping": steps,
        "gradients after clipping": steps,
        "optimizer state": steps,
        "parameters": (-1, *steps),
        "predictions": (5,),
    }
    norms = np.linalg.norm(table(trace, "gradients after clipping"), axis=1)
    assert norms.max() <= 0.1 + 1e-9


@pytest.mark.parametrize(
    "arrangement", [Arrangement(shards=2), Arrangement(shards=3, split="chunk"), Arrangement(shards=2, permute=1)]
)
def test_shards_and_permutations_change_nothing_but_rounding(tmp_path: Path, arrangement: Arrangement) -> None:
    plain, other = train(tmp_path / "a"), train(tmp_path / "b", arrangement=arrangement)
    for rung in ("loss", "gradients before clipping", "parameters", "predictions"):
        np.testing.assert_allclose(table(other, rung), table(plain, rung), atol=1e-12, rtol=0)
    assert not np.array_equal(table(other, "gradients before clipping"), table(plain, "gradients before clipping"))


def test_accumulation_trains_the_same_global_mean(tmp_path: Path) -> None:
    twice = msgspec.structs.replace(WORKLOAD, accumulation=2)
    plain, other = train(tmp_path / "a"), train(tmp_path / "b", twice)
    np.testing.assert_allclose(table(other, "parameters"), table(plain, "parameters"), atol=1e-12, rtol=0)


def test_the_learning_rate_changes_with_the_epoch(tmp_path: Path) -> None:
    constant = msgspec.structs.replace(WORKLOAD, schedule=Schedule())
    halved, same = table(train(tmp_path / "a"), "parameters"), table(train(tmp_path / "b", constant), "parameters")
    # Three steps an epoch; row 0 holds the initial weights.
    assert np.array_equal(halved[:4], same[:4])
    assert not np.array_equal(halved[4], same[4])


def test_a_fault_strikes_where_it_says_and_nowhere_else(tmp_path: Path) -> None:
    clean, robbed = train(tmp_path / "a"), train(tmp_path / "b", fault=Fault(name="lost-momentum"))
    state = [table(trace, "optimizer state") for trace in (clean, robbed)]
    assert np.array_equal(state[0][:2], state[1][:2])
    assert not np.allclose(state[0][2], state[1][2])
    assert np.array_equal(table(clean, "gradients before clipping")[:3], table(robbed, "gradients before clipping")[:3])


def test_timed_training_returns_an_epoch_a_turn_and_its_accuracy(tmp_path: Path) -> None:
    trace = train(tmp_path / "a", msgspec.structs.replace(WORKLOAD, epochs=8), purpose="timing")
    assert len(trace.losses) == 8
    assert trace.losses[-1] < trace.losses[0]
    assert trace.accuracy is not None
    assert trace.accuracy > 1 / 4
    assert trace.num_held_out > 0
    assert not trace.rungs, "timing records nothing else"


def test_an_unknown_fault_is_met_with_the_nearest_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown fault 'sum-for-men'; did you mean 'sum-for-mean'"):
        train(tmp_path / "a", fault=Fault(name="sum-for-men"))
