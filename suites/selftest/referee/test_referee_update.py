"""The referee's clipping and optimizers against closed forms."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from harness.models.base import Float64
from harness.referee import update
from harness.spec import Optimizer, Workload

PLAIN = Workload(name="w", model="mlp", dataset="synthetic")


def trajectory(settings: Optimizer, gradients: list[float], rates: list[float], start: float = 1.0) -> list[float]:
    """Return where one weight goes."""
    descent, tensors = update.Descent(settings), {"w": np.array([start])}
    found = []
    for gradient, rate in zip(gradients, rates, strict=True):
        descent.step(tensors, {"w": np.array([gradient])}, rate)
        found.append(float(tensors["w"][0]))
    return found


def sgd(**settings: Any) -> Optimizer:
    return Optimizer(name="sgd", **({"momentum": 0.0} | settings))


def test_gradient_descent_goes_down_the_gradient() -> None:
    assert trajectory(sgd(), [1.0, 2.0], [0.5, 0.25]) == [0.5, 0.0]


def test_a_change_of_the_rate_acts_on_the_whole_velocity() -> None:
    # v: 1, 1.5, 1.75
    assert trajectory(sgd(momentum=0.5), [1.0, 1.0, 1.0], [1.0, 0.5, 0.5]) == [0.0, -0.75, -1.625]


def test_nesterov_looks_ahead() -> None:
    # g + m v: 1.5, 1.75
    assert trajectory(sgd(momentum=0.5, nesterov=True), [1.0, 1.0], [1.0, 1.0]) == [-0.5, -2.25]


def test_weight_decay_of_sgd_is_a_term_of_the_gradient() -> None:
    # g + 0.5 w: 1.5, then w = -0.5: 0.75 and v = 0.5 * 1.5 + 0.75
    assert trajectory(sgd(momentum=0.5, weight_decay=0.5), [1.0, 1.0], [1.0, 1.0]) == [-0.5, -2.0]


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_s_first_step_has_the_length_of_the_rate(name: Any) -> None:
    settings = Optimizer(name=name, epsilon=1e-12)
    assert trajectory(settings, [1e-3], [0.1]) == [pytest.approx(0.9, abs=1e-9)]


def test_adam_s_epsilon_is_added_after_the_correction() -> None:
    assert trajectory(Optimizer(name="adam", epsilon=1.0), [3.0], [1.0]) == [pytest.approx(1 - 3 / (3 + 1))]


def test_adamw_decays_apart_from_the_moments_and_adam_within() -> None:
    apart = trajectory(Optimizer(name="adamw", weight_decay=0.5, epsilon=1e-12), [2.0], [0.1])
    within = trajectory(Optimizer(name="adam", weight_decay=0.5, epsilon=1e-12), [-0.5], [0.1])
    assert apart == [pytest.approx(0.95 - 0.1)]
    assert within == [1.0], "the L2 term takes the gradient away"


def test_a_wrong_formula_is_told() -> None:
    """Negative control: Keras's velocity, in which the rate is folded."""
    velocity, weight, found = 0.0, 1.0, []
    for rate in (1.0, 0.5, 0.5):
        velocity = 0.5 * velocity - rate
        weight += velocity
        found.append(weight)
    assert found[0] == 0.0
    assert found[1:] != trajectory(sgd(momentum=0.5), [1.0, 1.0, 1.0], [1.0, 0.5, 0.5])[1:]


def clipped(gradients: dict[str, list[float]], **settings: Any) -> dict[str, list[float]]:
    arrays: dict[str, Float64] = {name: np.array(value) for name, value in gradients.items()}
    found = update.clipped(arrays, msgspec.structs.replace(PLAIN, **settings))
    return {name: value.tolist() for name, value in found.items()}


def test_a_norm_is_clipped_over_all_tensors() -> None:
    found = clipped({"a": [3.0], "b": [0.0, 4.0]}, clip_norm=1.0)
    assert found == {"a": [pytest.approx(0.6, rel=1e-6)], "b": [0.0, pytest.approx(0.8, rel=1e-6)]}
    assert found["a"] != [0.6], "the norm plus 1e-6 divides"
    assert clipped({"a": [3.0], "b": [0.0, 4.0]}, clip_norm=6.0) == {"a": [3.0], "b": [0.0, 4.0]}


def test_a_value_is_clipped_element_by_element() -> None:
    assert clipped({"a": [3.0, -0.5, -3.0]}, clip_value=1.0) == {"a": [1.0, -0.5, -1.0]}
