"""The referee's layers: closed forms where there are some, and derivatives against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harness.models.base import Float64
from harness.referee import layers
from harness.referee.layers import Gradients, Pass

Layer = Callable[[Float64, Gradients], Pass]

STEP = 1e-6
# Of central differences in float64: their own error is STEP squared and 1e-16 / STEP.
CLOSE = 1e-7


def drawn(*shape: int, seed: int = 0) -> Float64:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def slope(function: Callable[[Float64], float], at: Float64) -> Float64:
    """Return the derivative of a function by central differences."""
    found = np.empty_like(at)
    for index in np.ndindex(at.shape):
        there = [at.copy(), at.copy()]
        there[0][index] += STEP
        there[1][index] -= STEP
        found[index] = (function(there[0]) - function(there[1])) / (2 * STEP)
    return found


IMAGE, FEATURES = drawn(3, 2, 5, 4), drawn(4, 6)
CASES: dict[str, tuple[Layer, Float64, Gradients]] = {
    "dense": (lambda x, w: layers.dense(x, **w), FEATURES, {"weight": drawn(3, 6), "bias": drawn(3)}),
    "convolution": (lambda x, w: layers.convolution(x, **w), IMAGE, {"weight": drawn(3, 2, 3, 3), "bias": drawn(3)}),
    "1x1 convolution": (
        lambda x, w: layers.convolution(x, **w),
        IMAGE,
        {"weight": drawn(3, 2, 1, 1), "bias": drawn(3)},
    ),
    "relu": (lambda x, _: layers.relu(x), FEATURES, {}),
    "max-pooling": (lambda x, _: layers.max_pool(x, 2), IMAGE, {}),
    "flatten": (lambda x, _: layers.flatten(x), IMAGE, {}),
    "dropout": (lambda x, _: layers.dropout(x, (drawn(*x.shape, seed=1) > 0).astype(float), 0.4), FEATURES, {}),
    "batch norm of features": (
        lambda x, w: layers.batch_norm(x, **w, epsilon=1e-2),
        FEATURES,
        {"weight": drawn(6), "bias": drawn(6, seed=1)},
    ),
    "batch norm of images": (
        lambda x, w: layers.batch_norm(x, **w, epsilon=1e-2),
        IMAGE,
        {"weight": drawn(2), "bias": drawn(2, seed=1)},
    ),
}


def errors(layer: Layer, x: Float64, weights: Gradients) -> dict[str, float]:
    """Return by how much each derivative differs from central differences of a random function of the output."""
    passed = layer(x, weights)
    dy = drawn(*passed.output.shape, seed=2)
    found = {"input": passed.to_input(dy), **passed.to_weights(dy)}
    expected = {"input": slope(lambda at: float((layer(at, weights).output * dy).sum()), x)}
    for name, value in weights.items():

        def moved(at: Float64, name: str = name) -> float:
            return float((layer(x, weights | {name: at}).output * dy).sum())

        expected[name] = slope(moved, value)
    assert found.keys() == expected.keys()
    return {name: float(np.abs(found[name] - expected[name]).max()) for name in expected}


@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_what_finite_differences_say(name: str) -> None:
    assert max(errors(*CASES[name]).values()) < CLOSE


def test_a_wrong_derivative_is_told() -> None:
    """Negative control: a batch norm whose statistics are taken for constants, as in evaluation."""

    def constant(x: Float64, weights: Gradients) -> Pass:
        right = layers.batch_norm(x, **weights, epsilon=1e-2)
        scale = weights["weight"] / np.sqrt(x.var(axis=0) + 1e-2)
        return Pass(output=right.output, to_input=lambda dy: dy * scale, to_weights=right.to_weights)

    _, x, weights = CASES["batch norm of features"]
    found = errors(constant, x, weights)
    assert found["input"] > 1e3 * CLOSE
    assert max(found["weight"], found["bias"]) < CLOSE


def test_a_convolution_is_the_sum_over_its_window_with_zeros_around_the_image() -> None:
    x, weight, bias = IMAGE, drawn(3, 2, 3, 3), drawn(3)
    expected = np.zeros((3, 3, 5, 4))
    for n, out, row, column in np.ndindex(expected.shape):
        expected[n, out, row, column] = bias[out]
        for channel, i, j in np.ndindex(2, 3, 3):
            if 0 <= row + i - 1 < 5 and 0 <= column + j - 1 < 4:
                expected[n, out, row, column] += weight[out, channel, i, j] * x[n, channel, row + i - 1, column + j - 1]
    np.testing.assert_allclose(layers.convolution(x, weight, bias).output, expected, rtol=0, atol=1e-14)


def test_max_pooling_leaves_out_an_incomplete_tile_and_gives_a_tie_to_the_first() -> None:
    x = np.array([[[[1.0, 3.0, 9.0], [3.0, 2.0, 9.0], [9.0, 9.0, 9.0]]]])
    passed = layers.max_pool(x, 2)
    assert passed.output.tolist() == [[[[3.0]]]]
    assert passed.to_input(np.ones((1, 1, 1, 1))).tolist() == [[[[0, 1, 0], [0, 0, 0], [0, 0, 0]]]]


def test_a_batch_is_normalised_by_the_biased_variance_and_remembered_by_the_unbiased_one() -> None:
    x = np.array([[1.0], [3.0], [5.0]])
    output = layers.batch_norm(x, np.array([2.0]), np.array([1.0]), epsilon=1.0).output
    np.testing.assert_allclose(output[:, 0], 1 + 2 * np.array([-2, 0, 2]) / np.sqrt(8 / 3 + 1), rtol=1e-15)
    running = {"running_mean": np.array([10.0]), "running_var": np.array([1.0])}
    moved = layers.moved_statistics(x, running, momentum=0.1)
    assert moved["running_mean"] == pytest.approx(9.3)
    assert moved["running_var"] == pytest.approx(0.9 + 0.1 * 4)


def test_evaluation_normalises_by_what_is_remembered() -> None:
    tensors = {"weight": 2.0, "bias": 1.0, "running_mean": 3.0, "running_var": 3.0}
    found = layers.normalised(np.array([[5.0]]), {name: np.array([value]) for name, value in tensors.items()}, 1.0)
    assert found.tolist() == [[3.0]]


def test_cross_entropy_is_the_logarithm_of_the_label_s_share() -> None:
    logits, labels = np.log(np.array([[1.0, 2.0, 5.0], [6.0, 1.0, 1.0]])), np.array([2, 1])
    losses, derivative = layers.cross_entropy(logits, labels)
    np.testing.assert_allclose(losses, -np.log([5 / 8, 1 / 8]), rtol=1e-15)
    np.testing.assert_allclose(derivative, [[1 / 8, 2 / 8, -3 / 8], [6 / 8, -7 / 8, 1 / 8]], rtol=0, atol=1e-15)


def test_cross_entropy_survives_large_logits() -> None:
    losses, derivative = layers.cross_entropy(np.array([[1e4, 0.0]]), np.array([1]))
    assert losses.tolist() == [1e4]
    assert derivative.tolist() == [[1.0, -1.0]]
