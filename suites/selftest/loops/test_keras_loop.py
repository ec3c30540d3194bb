"""The Keras loop: equal to plain PyTorch from the same seed weights, and every replica equal to the serial run.

Every run is a freshly forked process; this one imports no TensorFlow.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import plain_torch
import pytest
from plain_torch import Ladder

from harness import recorder
from harness.launchers import base as launchers
from harness.launchers.local import Group, Pool, RankFailure
from harness.record import Rung, Trace
from harness.spec import Arrangement, Check, Fault, Job, Leg, Optimizer, Schedule, Workload
from harness.strategies import base as strategies

pytestmark = pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs tensorflow")

Run = Callable[..., tuple[Trace, ...]]

# Rounding: what two ways to sum the same numbers in float64 may differ by, as a share of a tensor's norm.
ROUNDING = 1e-12
SGD = Optimizer(learning_rate=0.05, momentum=0.9)
ADAMW = Optimizer(name="adamw", learning_rate=0.01, weight_decay=0.1)
# Steps of 12, 12 and 4 samples; the second epoch trains at half the rate.
CHECK = Check(num_samples=28, global_batch=12, num_steps=6, num_held_out=8)
MLP = Workload(
    name="mlp",
    model="mlp",
    dataset="synthetic",
    optimizer=SGD,
    schedule=Schedule(gamma=0.5),
    num_samples=64,
    shape=(1, 8, 8),
    global_batch=16,
    epochs=3,
    check=CHECK,
)
CNN = msgspec.structs.replace(MLP, name="cnn", model="simple-cnn", shape=(2, 8, 12))
BN_CNN = msgspec.structs.replace(MLP, name="bn", model="mnist-cnn")


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with contextlib.closing(Pool({"tensorflow": ("harness.loops.keras_loop",)}.__getitem__)) as shared:
        yield shared


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keras")


@pytest.fixture(scope="module")
def run(pool: Pool, scratch: Path) -> Run:
    """Train a workload, serial or (with ``replicas``) under MirroredStrategy; return a trace per replica."""

    def train(workload: Workload, replicas: int = 0, **settings: Any) -> tuple[Trace, ...]:
        return pool.run(
            [Group(family="tensorflow", jobs=(job(scratch, workload, replicas, **settings),))], timeout_s=120
        )[0]

    return train


def job(scratch: Path, workload: Workload, replicas: int = 0, **settings: Any) -> Job:
    folder = scratch / f"case{len(list(scratch.glob('case*')))}"
    folder.mkdir()
    name = "tf_mirrored" if replicas else "keras_serial"
    return Job(
        function=f"harness.strategies.{name}:train",
        strategy=name,
        workload=workload,
        world_size=max(1, replicas),
        directory=str(folder),
        cache=str(scratch / "data"),
        **settings,
    )


def ladder(trace: Trace) -> Ladder:
    """Return everything that a trace holds: rung -> step -> tensor -> value."""
    seen: Ladder = {}
    for rung, file in trace.rungs.items():
        sizes = [int(np.prod(tensor.shape)) for tensor in file.tensors]
        seen[rung] = {
            step: {
                tensor.name: part.reshape(tensor.shape)
                for tensor, part in zip(file.tensors, np.split(row, np.cumsum(sizes)[:-1]), strict=True)
            }
            for step, row in zip(file.steps, recorder.read(file), strict=True)
        }
    return seen


def distance(first: Ladder, second: Ladder, rung: str) -> float:
    """Return the largest distance of a tensor at any step, as a share of the tensor's norm."""
    assert list(first[rung]) == list(second[rung])
    worst = 0.0
    for step, row in first[rung].items():
        assert list(row) == list(second[rung][step])
        for name, value in row.items():
            other = second[rung][step][name]
            assert value.shape == other.shape, name
            worst = max(worst, float(np.linalg.norm(value - other) / max(float(np.linalg.norm(value)), 1e-9)))
    return worst


def distances(first: Ladder, second: Ladder) -> dict[str, float]:
    first, second = without_noise(first), without_noise(second)
    return {rung: distance(first, second, rung) for rung in first if rung != "data order"}


def without_noise(seen: Ladder) -> Ladder:
    """Leave out biases in front of a batch norm: their gradients are zero but for rounding."""
    noise = ("conv1.bias", "conv2.bias", "conv3.bias", "dense1.bias", "dense2.bias") if "buffers" in seen else ()
    return {
        rung: {
            step: {name: value for name, value in row.items() if not name.endswith(noise)} for step, row in rows.items()
        }
        for rung, rows in seen.items()
    }


def replaced(workload: Workload, **settings: Any) -> Workload:
    return msgspec.structs.replace(workload, **settings)


# -- against plain PyTorch -------------------------------------------------------------------------------------------

SAME_MATHS = {
    "momentum": MLP,
    "nesterov-l2-dropout": replaced(
        MLP, optimizer=Optimizer(nesterov=True, weight_decay=0.01), dropout=0.3, accumulation=2
    ),
    "no-momentum": replaced(MLP, optimizer=Optimizer(momentum=0.0)),
    "adamw-clipped": replaced(CNN, optimizer=ADAMW, clip_norm=0.5),
    "adam-l2-shifted": replaced(
        CNN, optimizer=Optimizer(name="adam", learning_rate=0.01, weight_decay=0.1), augment="shift", accumulation=3
    ),
    "batchnorm-dropout": replaced(BN_CNN, dropout=0.4),
    "adam-clipped-by-value": replaced(MLP, optimizer=Optimizer(name="adam", learning_rate=0.01), clip_value=0.01),
    "frozen": replaced(MLP, frozen=("dense1",)),
}


@pytest.mark.parametrize("workload", SAME_MATHS.values(), ids=SAME_MATHS)
def test_serial_keras_computes_what_plain_pytorch_computes(workload: Workload, run: Run, scratch: Path) -> None:
    pytest.importorskip("torch")
    expected, got = plain_torch.train(workload, scratch / "data"), ladder(run(workload)[0])
    assert set(got) == {*expected, "data order"}
    assert max(distances(expected, got).values()) < ROUNDING, distances(expected, got)


def test_another_setting_is_seen_at_once(run: Run, scratch: Path) -> None:
    pytest.importorskip("torch")
    other = replaced(MLP, optimizer=Optimizer(learning_rate=0.05, momentum=0.9, nesterov=True))
    found = distances(plain_torch.train(other, scratch / "data"), ladder(run(MLP)[0]))
    assert found["parameters"] > 1e6 * ROUNDING


def test_the_mnist_network_has_906186_numbers(run: Run) -> None:
    check = Check(num_samples=4, global_batch=4, num_steps=1, num_held_out=1)
    seen = ladder(run(replaced(BN_CNN, shape=(1, 28, 28), check=check))[0])
    sizes = [value.size for rung in ("parameters", "buffers") for value in seen[rung][0].values()]
    assert sum(sizes) == 906_186


# -- one process in several arrangements -----------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [3, 14], ids=["even", "more-than-samples"])
def test_shards_and_permutations_only_change_the_order_of_summation(shards: int, run: Run) -> None:
    plain = ladder(run(CNN)[0])
    arranged = ladder(run(CNN, arrangement=Arrangement(shards=shards, permute=5))[0])
    assert max(distances(plain, arranged).values()) < ROUNDING
    for step, row in plain["data order"].items():
        order = arranged["data order"][step]["samples"]
        assert sorted(order) == sorted(row["samples"])
        assert list(order) != list(row["samples"])


def test_shards_of_a_batch_norm_see_their_own_statistics_and_leave_the_first_ones_or_all(run: Run) -> None:
    first, every = (
        ladder(run(BN_CNN, arrangement=Arrangement(shards=2, batchnorm=whose))[0])
        for whose in ("per-shard", "per-micro-batch")
    )
    # Both normalise by the statistics of a shard, so that they part in the running ones only.
    assert distance(first, every, "gradients before clipping") == 0
    assert distance(first, every, "buffers") > 1e-3
    assert distance(ladder(run(BN_CNN)[0]), first, "gradients before clipping") > 1e-3


# -- replicas --------------------------------------------------------------------------------------------------------

MIRRORED = {
    "mlp-2": (MLP, 2, Arrangement()),
    "cnn-3-adamw-clipped-accumulated": (
        replaced(
            CNN,
            optimizer=ADAMW,
            clip_norm=0.5,
            accumulation=2,
            dropout=0.2,
            check=Check(num_samples=36, global_batch=14),
        ),
        3,
        Arrangement(),
    ),
    "batchnorm-2": (replaced(BN_CNN, dropout=0.4), 2, Arrangement(shards=2, batchnorm="per-shard")),
}


@pytest.mark.parametrize(("workload", "replicas", "reference"), MIRRORED.values(), ids=MIRRORED)
def test_every_mirrored_replica_computes_what_the_serial_run_computes(
    workload: Workload, replicas: int, reference: Arrangement, run: Run
) -> None:
    serial, traces = ladder(run(workload, arrangement=reference)[0]), run(workload, replicas)
    assert [trace.rank for trace in traces] == list(range(replicas))
    orders = []
    for trace in traces:
        seen = ladder(trace)
        own = {"buffers at next forward", "predictions"} if trace.rank and "buffers" in serial else set()
        assert set(serial) - set(seen) == own
        apart = distances({rung: serial[rung] for rung in seen}, seen)
        if own:
            # Keras 3 leaves every replica its own running statistics; replica 0's are the model's.
            assert apart.pop("buffers") > 1e-3
        assert max(apart.values()) < ROUNDING, apart
        orders.append(seen["data order"][2]["samples"])
    together = np.concatenate([order[order >= 0] for order in orders])
    assert sorted(together) == sorted(sample for sample in serial["data order"][2]["samples"] if sample >= 0)


def test_statistics_that_are_not_averaged_stay_with_their_replica(run: Run) -> None:
    """Keras 3 declares no aggregation for running statistics: stock models keep replica 0's and lose the others."""
    first, second = (ladder(trace) for trace in run(BN_CNN, 2))
    per_shard = ladder(run(BN_CNN, arrangement=Arrangement(shards=2, batchnorm="per-shard"))[0])
    assert distance(first, per_shard, "buffers") < ROUNDING
    assert distance(first, second, "buffers") > 1e-3


def test_a_fault_of_one_element_on_one_replica_leaves_all_else_to_the_last_bit(run: Run) -> None:
    """The gradients pass through numpy there and back, in PyTorch's layout: 0 is the first output's first input."""
    short = replaced(MLP, check=Check(num_samples=24, global_batch=12, num_steps=1, num_held_out=4))
    fault = Fault(name="sum-for-mean", settings={"tensor": "dense1.weight", "rank": -1, "element": 1})
    (first, second), (well, ill) = (run(short, 2, fault=injected) for injected in (None, fault))
    rung: Rung = "gradients before clipping"
    assert distance(ladder(first), ladder(well), rung) == 0
    before, after = (ladder(trace)[rung][0] for trace in (second, ill))
    expected = {name: gradient.copy() for name, gradient in before.items()}
    expected["dense1.weight"][0, 1] *= 2
    assert all(np.array_equal(expected[name], gradient) for name, gradient in after.items())


# -- several processes -----------------------------------------------------------------------------------------------

ALONE = """
from harness.loops import keras_loop

def train(job):
    return keras_loop.fit(job, keras_loop.Parallelism(processes=True))
"""


def test_processes_that_nothing_joins_start_apart_and_train_on_their_own_shares(
    pool: Pool, scratch: Path, tmp_path: Path
) -> None:
    """What only a broadcast and a reduction change: a strategy that forgets either cannot pass unseen."""
    (tmp_path / "alone.py").write_text(ALONE)
    jobs = tuple(
        msgspec.structs.replace(job(scratch, MLP), function=f"{tmp_path / 'alone.py'}:train", rank=rank, world_size=2)
        for rank in range(2)
    )
    traces = pool.run([Group(family="tensorflow", jobs=jobs)], timeout_s=120)[0]
    assert [trace.rank for trace in traces] == [0, 1]
    first, second = map(ladder, traces)
    assert distance(first, second, "parameters") > 1e-2
    orders = [seen["data order"][0]["samples"] for seen in (first, second)]
    assert not {*orders[0][orders[0] >= 0]} & {*orders[1][orders[1] >= 0]}


def workers(scratch: Path, name: str, workload: Workload, **settings: Any) -> Group:
    """Return two processes that train together with strategy ``name``."""
    strategies.discover()
    declared = strategies.get(name)
    jobs = [
        msgspec.structs.replace(
            job(scratch, workload, options=dict(declared.chosen), **settings),
            function=declared.function,
            rank=rank,
            world_size=2,
        )
        for rank in range(2)
    ]
    return Group(family="tensorflow", jobs=launchers.get(declared.launcher)(jobs))


def test_workers_of_a_parameter_server_come_near_serial_training_but_not_to_it(
    pool: Pool, scratch: Path, run: Run
) -> None:
    check = Check(num_samples=28, global_batch=14, num_steps=8, num_held_out=8)
    workload = replaced(MLP, optimizer=Optimizer(learning_rate=0.01, momentum=0.0), check=check)
    coordinator, worker = pool.run([workers(scratch, "tf-parameter-server", workload)], timeout_s=120)[0]
    assert not worker.rungs
    seen, serial = ladder(coordinator), ladder(run(workload)[0])
    assert {step: set(row["samples"]) for step, row in seen["data order"].items()} == {
        step: set(row["samples"]) for step, row in serial["data order"].items()
    }
    untrained = replaced(workload, optimizer=Optimizer(learning_rate=0.0, momentum=0.0))
    start, end, near = (rows["predictions"][7]["logits"] for rows in (ladder(run(untrained)[0]), serial, seen))
    assert 1e3 * ROUNDING < np.linalg.norm(near - end) / np.linalg.norm(start - end) < 0.2


# -- saving and resuming ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [0, 2], ids=["serial", "mirrored"])
def test_a_resumed_training_goes_on_as_if_it_had_never_stopped(replicas: int, run: Run, tmp_path: Path) -> None:
    workload = replaced(CNN, optimizer=ADAMW)
    whole = ladder(run(workload)[0])
    before = ladder(run(workload, 2, leg=Leg(first=0, last=2, save=str(tmp_path)))[0])
    after = ladder(run(workload, replicas, leg=Leg(first=2, last=6, load=str(tmp_path)))[0])
    assert "predictions" not in before
    assert list(after["parameters"]) == [1, 2, 3, 4, 5]
    resumed = {rung: {step: whole[rung][step] for step in rows} for rung, rows in after.items()}
    assert max(distances(resumed, after).values()) < ROUNDING


def test_a_training_that_forgets_its_state_is_seen_at_once(run: Run, tmp_path: Path) -> None:
    whole = ladder(run(CNN)[0])
    run(CNN, leg=Leg(first=0, last=2, save=str(tmp_path)))
    anew = ladder(run(CNN, leg=Leg(first=2, last=6))[0])
    expected = {rung: {step: whole[rung][step] for step in rows} for rung, rows in anew.items()}
    assert distance(expected, anew, "optimizer state") > 1e-3


# -- timing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [0, 2], ids=["serial", "mirrored"])
def test_timed_epochs_learn_and_end_with_held_out_accuracy(replicas: int, pool: Pool, scratch: Path) -> None:
    group = Group(family="tensorflow", jobs=(job(scratch, BN_CNN, replicas, purpose="timing"),))
    with pool.open([group], timeout_s=120) as session:
        epochs = [session.epoch(0)[0] for _ in range(BN_CNN.epochs)]
        (trace,) = session.finish(0)
    assert [epoch.num_samples for epoch in epochs] == [64, 64, 64]
    assert all(epoch.end_s > epoch.start_s for epoch in epochs)
    assert all(before.end_s <= after.start_s for before, after in itertools.pairwise(epochs))
    assert len(trace.losses) == 3
    assert trace.losses[-1] < trace.losses[0]
    assert trace.num_held_out == 64
    assert trace.accuracy is not None
    assert trace.accuracy > 0.5
    assert (trace.peak_memory_bytes or 0) > 50_000_000


@pytest.mark.parametrize("name", ["tf-multiworker", "tf-parameter-server", "horovod-keras"])
def test_processes_that_train_together_are_timed_together(name: str, pool: Pool, scratch: Path) -> None:
    strategies.discover()
    lacking = strategies.get(name).missing()
    if lacking:
        pytest.skip(lacking)
    with pool.open([workers(scratch, name, MLP, purpose="timing")], timeout_s=120) as session:
        epochs = [session.epoch(0) for _ in range(MLP.epochs)]
        traces = session.finish(0)
    assert [max(epoch.num_samples for epoch in row) for row in epochs] == [64, 64, 64]
    told = [trace for trace in traces if trace.accuracy is not None]
    assert [trace.rank for trace in told] == ([0] if name == "tf-parameter-server" else [0, 1])
    assert {trace.num_held_out for trace in told} == {64}
    assert told[0].losses[-1] < told[0].losses[0]


# -- what cannot be run ----------------------------------------------------------------------------------------------

REFUSED = {
    "too few samples": (replaced(BN_CNN, check=Check(num_samples=27, global_batch=12)), 2, {}, "leaves 1 to one of 2"),
    "no such seam": (MLP, 2, {"fault": Fault(name="collective-order")}, "strikes module"),
    "no such device": (MLP, 64, {"device": "cuda"}, "needs 64 CUDA devices"),
}


@pytest.mark.parametrize(("workload", "replicas", "settings", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_run_is_refused_with_a_reason(
    workload: Workload, replicas: int, settings: dict[str, Any], words: str, run: Run
) -> None:
    with pytest.raises(RankFailure, match=words):
        run(workload, replicas, **settings)
