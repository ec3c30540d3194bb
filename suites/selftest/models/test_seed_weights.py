"""Seed weights: the same start for every framework, and no tensor that hides a missing broadcast."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.models import base
from harness.models.base import Dense, Layer, ReLU, Shape
from harness.spec import Workload


def workload(model: str = "mnist-cnn", **settings: object) -> Workload:
    return Workload(name="w", model=model, dataset="synthetic", **settings)  # type: ignore[arg-type]


def one_layer(_shape: Shape, num_classes: int, _dropout: float) -> tuple[Layer, ...]:
    return (Dense(name="dense1", in_features=4, out_features=num_classes),)


def three_layers(_shape: Shape, num_classes: int, _dropout: float) -> tuple[Layer, ...]:
    return (
        Dense(name="dense0", in_features=4, out_features=4),
        ReLU(),
        Dense(name="dense1", in_features=4, out_features=num_classes),
    )


@pytest.mark.parametrize("model", ["mlp", "simple-cnn", "mnist-cnn"])
def test_there_is_a_float64_array_for_every_parameter_then_every_buffer(model: str) -> None:
    layers = base.layers(workload(model))
    weights = base.seed_weights(workload(model))
    assert {name: array.shape for name, array in weights.items()} == base.parameters(layers) | base.buffers(layers)
    assert list(weights) == [*base.parameters(layers), *base.buffers(layers)]
    assert all(array.dtype == np.float64 for array in weights.values())


def test_no_trained_tensor_starts_as_a_constant() -> None:
    weights = base.seed_weights(workload())
    assert all(len(np.unique(weights[name])) == weights[name].size for name in base.parameters(base.layers(workload())))


def test_weights_have_the_spread_of_he_and_the_last_layer_half_of_it() -> None:
    weights = base.seed_weights(workload())
    for name, array in weights.items():
        if array.ndim > 1:
            spread = math.sqrt(2 / math.prod(array.shape[1:])) * (0.5 if name == "dense3.weight" else 1)
            assert abs(array.std() / spread - 1) < 4 / math.sqrt(2 * array.size)


def test_batch_norms_start_near_the_identity_and_their_statistics_at_zero_and_one() -> None:
    weights = base.seed_weights(workload())
    assert abs(weights["bn2.weight"] - 1).max() < 0.1
    assert abs(weights["bn2.bias"]).max() < 0.1
    assert (weights["bn2.running_mean"] == 0).all()
    assert (weights["bn2.running_var"] == 1).all()


def test_the_seed_and_the_name_decide() -> None:
    first, again, other = (base.seed_weights(workload(seed=seed)) for seed in (1, 1, 2))
    for name in base.parameters(base.layers(workload())):
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()
    assert (first["bn1.bias"] != first["conv1.bias"]).all()


def test_another_layer_leaves_the_weights_of_the_others_as_they_were() -> None:
    short, long = (base.seed_weights(workload(f"{__file__}:{name}")) for name in ("one_layer", "three_layers"))
    np.testing.assert_array_equal(short["dense1.weight"], long["dense1.weight"])


def test_tensors_that_no_description_knows_start_by_their_name_and_shape() -> None:
    shapes = {
        "block.class_token": (1, 1, 400),
        "block.norm.weight": (400,),
        "block.in_proj_weight": (30, 50),
        "block.table": (40, 50),
        "block.in_proj_bias": (400,),
        "head.weight": (30, 50),
    }
    weights = base.initial(0, shapes)
    assert {name: array.shape for name, array in weights.items()} == shapes
    spreads = {name: float(array.std()) for name, array in weights.items()}
    he = math.sqrt(2 / 50)
    near_zero = {"block.class_token": 0.02, "block.table": 0.02, "block.in_proj_bias": 0.02}
    expected = near_zero | {"block.norm.weight": 0.02, "block.in_proj_weight": he, "head.weight": he / 2}
    assert spreads == pytest.approx(expected, rel=0.2)
    assert {name for name, array in weights.items() if abs(array.mean() - 1) < 0.1} == {"block.norm.weight"}


def test_described_tensors_start_alike_by_either_way() -> None:
    weights = base.seed_weights(workload())
    again = base.initial(0, base.parameters(base.layers(workload())))
    for name, array in again.items():
        np.testing.assert_array_equal(array, weights[name])
