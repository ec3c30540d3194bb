"""The referee's training of a check: the whole network's derivatives, what it records, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from harness import jobs, recorder, workloads
from harness.activations import NUM_SAMPLES
from harness.datasets import base as datasets
from harness.errors import SpecError
from harness.models import base as models
from harness.models.base import Float64
from harness.record import Trace
from harness.referee import layers, network, training
from harness.spec import Arrangement, Case, Check, Fault, Job, Optimizer, Workload
from harness.strategies import base as strategies

CHECK = Check(num_samples=20, global_batch=12, num_steps=3, num_held_out=8, activations=True)
MLP = Workload(name="mlp", model="mlp", dataset="synthetic", shape=(1, 4, 4), num_samples=24, check=CHECK)
CNN = msgspec.structs.replace(MLP, name="cnn", model="simple-cnn", model_options={"width": 2}, dropout=0.25)
NORMALISED = msgspec.structs.replace(MLP, name="bn", model="mnist-cnn")
TIED = msgspec.structs.replace(MLP, name="tied", model="tied-mlp", model_options={"width": 5})


def trained(workload: Workload, folder: Path, **settings: Any) -> Trace:
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(
        function="harness.strategies.numpy_serial:train",
        strategy="numpy-serial",
        workload=workload,
        directory=str(folder),
        cache=str(folder),
    )
    (trace,) = training.fit(msgspec.structs.replace(job, **settings))
    return trace


def row(trace: Trace, rung: Any, step: int) -> dict[str, Float64]:
    """Return what one rung holds at one step, by tensor."""
    file = trace.rungs[rung]
    ends = np.cumsum([int(np.prod(tensor.shape)) for tensor in file.tensors])[:-1]
    values = np.split(np.asarray(recorder.read(file)[file.steps.index(step)]), ends)
    return {
        tensor.name: value.reshape(tensor.shape).astype(np.float64)
        for tensor, value in zip(file.tensors, values, strict=True)
    }


@pytest.mark.parametrize("workload", [MLP, CNN, NORMALISED, TIED], ids=lambda workload: workload.name)
def test_the_gradient_of_a_network_is_the_slope_of_its_loss(workload: Workload, tmp_path: Path) -> None:
    """Along one random direction in all parameters at once; of tied layers the gradients add up."""
    built = network.build(workload)
    data = datasets.load(workload, cache=str(tmp_path), data_root=None)
    images, labels = data.images[:12].astype(np.float64), data.labels[:12]
    masks = [np.ones((12, *site.shape), np.uint8) for site in models.dropout_sites(built.described)]
    draw = np.random.default_rng(1)
    start = dict(built.tensors)
    direction = {name: draw.normal(size=start[name].shape) for name in built.trained}

    def loss(by: float) -> float:
        built.tensors.update({name: start[name] + by * value for name, value in direction.items()})
        losses, _ = layers.cross_entropy(built.forward(images, masks)[-1].output, labels)
        return float(losses.sum())

    step = 1e-6
    slope = (loss(step) - loss(-step)) / (2 * step)
    loss(0.0)
    passes = built.forward(images, masks)
    gradients = built.backward(passes, layers.cross_entropy(passes[-1].output, labels)[1])
    assert gradients.keys() == set(built.trained)
    found = sum(float((gradients[name] * value).sum()) for name, value in direction.items())
    assert found == pytest.approx(slope, rel=1e-6)


def test_a_frozen_layer_stays_and_has_no_gradient(tmp_path: Path) -> None:
    trace = trained(msgspec.structs.replace(MLP, frozen=("dense2",)), tmp_path)
    before, after, gradients = (
        row(trace, rung, step)
        for rung, step in (("parameters", -1), ("parameters", 2), ("gradients before clipping", 0))
    )
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert moved == {"dense1.weight", "dense1.bias", "dense3.weight", "dense3.bias"}
    assert not gradients["dense2.weight"].any()
    assert [tensor.name for tensor in trace.rungs["parameters"].tensors if not tensor.trainable] == [
        "dense2.weight",
        "dense2.bias",
    ]


def test_a_momentum_is_what_the_gradients_say(tmp_path: Path) -> None:
    trace = trained(MLP, tmp_path)
    expected = np.zeros((64, 16))
    for step in range(CHECK.num_steps):
        expected = 0.9 * expected + row(trace, "gradients before clipping", step)["dense1.weight"]
        np.testing.assert_allclose(row(trace, "optimizer state", step)["momentum:dense1.weight"], expected)


@pytest.mark.parametrize(("name", "kinds"), [("sgd", {"momentum"}), ("adamw", {"exp_avg", "exp_avg_sq", "step"})])
def test_the_state_of_an_optimizer_bears_canonical_names(name: Any, kinds: set[str], tmp_path: Path) -> None:
    trace = trained(msgspec.structs.replace(MLP, optimizer=Optimizer(name=name)), tmp_path)
    assert {tensor.name.partition(":")[0] for tensor in trace.rungs["optimizer state"].tensors} == kinds


@pytest.mark.parametrize("workload", [CNN, NORMALISED], ids=lambda workload: workload.name)
def test_layers_are_recorded_in_the_order_of_the_step_whatever_the_order_of_training(
    workload: Workload, tmp_path: Path
) -> None:
    plain = trained(workload, tmp_path / "plain")
    again = trained(workload, tmp_path / "again", arrangement=Arrangement(permute=3))
    file = plain.rungs["activations"]
    assert file.steps == (0,)
    assert tuple(tensor.name for tensor in file.tensors) == models.layer_names(models.layers(workload))
    assert {tensor.shape[0] for tensor in file.tensors} == {NUM_SAMPLES}
    for (name, one), other in zip(
        row(plain, "activations", 0).items(), row(again, "activations", 0).values(), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12, err_msg=name)
    assert (row(plain, "data order", 0)["samples"] != row(again, "data order", 0)["samples"]).any()


def test_shards_keep_the_first_one_s_statistics_or_move_them_one_after_the_other(tmp_path: Path) -> None:
    check = msgspec.structs.replace(CHECK, num_samples=NUM_SAMPLES, global_batch=NUM_SAMPLES)
    workload = msgspec.structs.replace(NORMALISED, check=check)
    traces = [
        trained(workload, tmp_path / whose, arrangement=Arrangement(shards=2, batchnorm=whose))
        for whose in ("per-shard", "per-micro-batch")
    ]
    kept, moved = (row(trace, "buffers", 0)["bn1.running_mean"] for trace in traces)
    convolved = row(traces[0], "activations", 0)["conv1"]
    first, second = (convolved[part].mean(axis=(0, 2, 3)) for part in (slice(4), slice(4, 8)))
    np.testing.assert_allclose(kept, 0.1 * first)
    np.testing.assert_allclose(moved, 0.9 * kept + 0.1 * second)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"purpose": "timing"}, "expected a check of equality"),
        ({"rank": 0, "world_size": 2}, "expected a single process but got world_size=2"),
        ({"fault": Fault(name="sum-for-mean")}, "expected no fault"),
        ({"arrangement": Arrangement(layer_parts=2)}, "expected sums in one part"),
        ({"arrangement": Arrangement(shards=2, batchnorm="deferred")}, "expected sums in one part"),
    ],
)
def test_what_would_be_computed_otherwise_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=words):
        trained(MLP, tmp_path, **changes)


def test_single_precision_is_refused(tmp_path: Path) -> None:
    single = msgspec.structs.replace(MLP, check=msgspec.structs.replace(CHECK, dtype="float32"))
    with pytest.raises(SpecError, match=r"expected float64 but got check\.dtype='float32'"):
        trained(single, tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [("digits-mlp-bf16", "the referee computes in float64"), ("digits-vit-narrow", "no definition in numpy")],
)
def test_the_limits_are_told_before_any_process_starts(name: str, words: str) -> None:
    case = Case(workload=name, strategy="numpy-serial", world_size=1)
    with pytest.raises(SpecError, match=f"numpy-serial does not support this: .*{words}"):
        jobs.validate(case, workloads.get(name), strategies.get(case.strategy))


def test_a_model_of_torch_modules_is_refused(tmp_path: Path) -> None:
    blocks = msgspec.structs.replace(MLP, model="transformer", model_options={"patch": 2, "dim": 8, "heads": 2})
    with pytest.raises(SpecError, match="holds PyTorch modules, which have no definition in numpy"):
        trained(blocks, tmp_path)


def test_nothing_is_recorded_of_layers_unless_asked(tmp_path: Path) -> None:
    unasked = msgspec.structs.replace(MLP, check=msgspec.structs.replace(CHECK, activations=False))
    assert "activations" not in trained(unasked, tmp_path).rungs
