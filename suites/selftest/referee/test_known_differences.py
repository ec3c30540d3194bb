"""What frameworks compute differently from settings of one name: the algebra holds, and the Keras loop matches it.

``docs/frameworks.md`` states each. Every test asks three things: what stock Keras computes is what the algebra says
of it; that is not what the workload means; and what the Keras loop computes is.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_differences import (
    CLIP_NORM,
    CONSTANT,
    CONV_IMAGE,
    GRADIENTS,
    LAYER,
    NORM_BATCHES,
    OPTIMIZERS,
    RATES,
    START,
)

import harness
from harness.errors import SpecError
from harness.models.base import Conv, Float64
from harness.referee import layers, update
from harness.spec import Optimizer

pytestmark = pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs tensorflow")

ROUNDING = 1e-14
# How far a constant moves when Keras casts it by way of float32.
CAST = 1e-7


@pytest.fixture(scope="module")
def keras() -> dict[str, Any]:
    """Return what stock Keras and the Keras loop compute, in a process of their own."""
    program = Path(__file__).with_name("stock_keras.py")
    command = [sys.executable, str(program)]
    root = str(Path(harness.__file__).parents[1])
    environment = {"PYTHONPATH": root, "PATH": "", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-4_000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def meant(settings: Optimizer) -> Float64:
    """Return where the workload's optimizer takes the vector, by the referee."""
    descent, tensors = update.Descent(settings), {"w": np.array(START)}
    rows = []
    for rate, gradient in zip(RATES, GRADIENTS, strict=True):
        descent.step(tensors, {"w": np.array(gradient)}, rate)
        rows.append(tensors["w"])
    return np.array(rows)


def away(found: Any, expected: Any) -> Float64:
    """Return the largest difference of every step."""
    return np.abs(np.asarray(found) - np.asarray(expected)).max(axis=1)  # type: ignore[no-any-return]


Rule = Callable[[Float64, Float64, float, int], Float64]


def stock(rule: Rule, decay: float = 0.0) -> Float64:
    """Return where a rule (weight, gradient, rate, step) -> weight takes the vector, decayed as Keras does it."""
    weight, rows = np.array(START), []
    for step, (rate, gradient) in enumerate(zip(RATES, GRADIENTS, strict=True), 1):
        weight = weight - rate * cast(decay) * weight
        weight = rule(weight, np.array(gradient), rate, step)
        rows.append(weight)
    return np.array(rows)


def cast(constant: float) -> float:
    return float(np.float32(constant))


def folded(momentum: float = 0.9, *, nesterov: bool = False) -> Rule:
    """Keras's momentum: v = m v - rate g;  w += v, or w += m v - rate g."""
    velocity = np.zeros(len(START))

    def rule(weight: Float64, gradient: Float64, rate: float, _step: int) -> Float64:
        nonlocal velocity
        velocity = cast(momentum) * velocity - rate * gradient
        return weight + (cast(momentum) * velocity - rate * gradient if nesterov else velocity)

    return rule


def epsilon_hat(epsilon: float = 1e-3) -> Rule:
    """Keras's Adam: w -= rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(s) + epsilon)."""
    mean, square = np.zeros(len(START)), np.zeros(len(START))

    def rule(weight: Float64, gradient: Float64, rate: float, step: int) -> Float64:
        nonlocal mean, square
        mean = mean + (gradient - mean) * (1 - 0.9)
        square = square + (gradient**2 - square) * (1 - 0.999)
        alpha = rate * np.sqrt(1 - cast(0.999) ** step) / (1 - cast(0.9) ** step)
        moved: Float64 = weight - alpha * mean / (np.sqrt(square) + epsilon)
        return moved

    return rule


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_keras_loop_computes_what_the_workload_means(keras: dict[str, Any], name: str) -> None:
    assert away(keras["ours"][name], meant(OPTIMIZERS[name])).max() < ROUNDING


@pytest.mark.parametrize("name", ["plain", "momentum", "nesterov", "sgd, weight decay", "adam", "adamw"])
def test_stock_keras_computes_what_the_page_says_of_it(keras: dict[str, Any], name: str) -> None:
    rules = {
        "plain": stock(lambda weight, gradient, rate, _: weight - rate * gradient),
        "momentum": stock(folded()),
        "nesterov": stock(folded(nesterov=True)),
        "sgd, weight decay": stock(lambda weight, gradient, rate, _: weight - rate * gradient, 0.1),
        "adam": stock(epsilon_hat()),
        "adamw": stock(epsilon_hat(), 0.1),
    }
    assert away(keras["stock"][name], rules[name]).max() < ROUNDING


@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_the_velocity_of_keras_is_another_one_once_the_rate_has_changed(keras: dict[str, Any], name: str) -> None:
    found = away(keras["stock"][name], meant(OPTIMIZERS[name]))
    assert found[:CONSTANT].max() < CAST
    assert found[CONSTANT:].min() > 1e-2


def test_without_momentum_there_is_no_difference(keras: dict[str, Any]) -> None:
    assert away(keras["stock"]["plain"], meant(OPTIMIZERS["plain"])).max() < ROUNDING


def test_keras_adds_epsilon_before_the_correction(keras: dict[str, Any]) -> None:
    expected = meant(OPTIMIZERS["adam"])
    assert away(keras["stock"]["adam"], expected)[0] > 1e-4
    # What is left is 1 - b2^t, of which a rounded b2 moves the fifth digit.
    assert away(keras["stock, epsilon corrected"], expected).max() < 100 * CAST, "epsilon sqrt(1 - b2^t) in its place"


def test_the_decay_of_keras_is_decoupled_in_every_optimizer(keras: dict[str, Any]) -> None:
    for name in ("momentum, weight decay", "adam, weight decay"):
        assert away(keras["stock"][name], meant(OPTIMIZERS[name])).max() > 1e-3
    name = "sgd, weight decay"
    assert away(keras["stock"][name], meant(OPTIMIZERS[name])).max() < CAST, "without moments it is one and the same"


def test_keras_rounds_constants_to_float32_on_the_way_to_float64(keras: dict[str, Any]) -> None:
    found = away(keras["stock"]["momentum"], meant(OPTIMIZERS["momentum"]))[:CONSTANT]
    assert ROUNDING < found.max() < CAST


def test_keras_remembers_the_biased_variance(keras: dict[str, Any]) -> None:
    running: dict[str, Float64] = {"running_mean": np.zeros(3), "running_var": np.ones(3)}
    biased, num = np.ones(3), len(NORM_BATCHES[0])
    for batch in map(np.array, NORM_BATCHES):
        running = layers.moved_statistics(batch, running, LAYER.momentum)
        biased = (1 - LAYER.momentum) * biased + LAYER.momentum * batch.var(axis=0, ddof=1) * (num - 1) / num
    ours, theirs = keras["norm"]["ours"], keras["norm"]["stock"]
    for name in ("running_mean", "running_var"):
        np.testing.assert_allclose(ours[name], running[name], rtol=ROUNDING)
    np.testing.assert_allclose(theirs["running_mean"], running["running_mean"], rtol=CAST)
    np.testing.assert_allclose(theirs["running_var"], biased, rtol=CAST)
    assert np.abs(np.array(theirs["running_var"]) - running["running_var"]).min() > 1e-3


def test_batch_norm_has_other_defaults_in_keras(keras: dict[str, Any]) -> None:
    assert keras["defaults"]["norm"] == [0.99, 1e-3]
    expected = layers.batch_norm(np.array(NORM_BATCHES[0]), np.ones(3), np.zeros(3), LAYER.epsilon).output
    for name, limit in (("ours", ROUNDING), ("stock", CAST)):
        assert away(keras["norm"][name]["outputs"][0], expected).max() < limit
    assert away(keras["norm"]["default"]["outputs"][0], expected).max() > 1e-4


def test_adam_has_another_default_in_keras(keras: dict[str, Any]) -> None:
    assert keras["defaults"]["adam"] == 1e-7 != Optimizer(name="adam").epsilon


def test_torch_divides_by_the_norm_plus_1e_6_when_it_clips(keras: dict[str, Any]) -> None:
    gradients = np.array(GRADIENTS[:2])
    norm = float(np.linalg.norm(gradients))
    clip = keras["clip"]
    np.testing.assert_allclose(clip["ours"], gradients * CLIP_NORM / (norm + update.CLIP_EPSILON), rtol=ROUNDING)
    for name in ("tensorflow", "stock"):
        np.testing.assert_allclose(clip[name], gradients * CLIP_NORM / norm, rtol=ROUNDING)
    assert np.abs(np.array(clip["ours"]) / np.array(clip["stock"]) - 1).min() > 1e-8


def test_an_even_window_is_padded_on_one_side_only_so_that_models_refuse_it(keras: dict[str, Any]) -> None:
    image = np.array(CONV_IMAGE)
    sums = np.pad(image, ((0, 1), (0, 1)))
    expected = sums[:-1, :-1] + sums[1:, :-1] + sums[:-1, 1:] + sums[1:, 1:]
    assert keras["same"]["2"] == expected.tolist(), "below and right, where torch's padding=1 is on all sides"
    passed = layers.convolution(image[None, None], np.ones((1, 1, 3, 3)), np.zeros(1))
    np.testing.assert_allclose(keras["same"]["3"], passed.output[0, 0], rtol=ROUNDING)
    with pytest.raises(SpecError, match="expected an odd kernel"):
        Conv(name="conv1", in_channels=1, out_channels=1, kernel=2)
