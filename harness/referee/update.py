"""From complete gradients to new parameters: clipping, gradient descent and Adam, by the definitions of the spec."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from harness.models.base import Float64
from harness.referee.layers import Gradients
from harness.spec import Optimizer, Workload

# torch.nn.utils.clip_grad_norm_ divides by the norm plus this; every loop clips alike.
CLIP_EPSILON = 1e-6


class Descent:
    """An optimizer with what it remembers of every parameter, and ``num_steps``, how many it has taken."""

    def __init__(self, settings: Optimizer) -> None:
        self.settings = settings
        self.num_steps = 0
        self._moments: dict[str, dict[str, Float64]] = {}

    @property
    def moments(self) -> dict[str, Float64]:
        """Every moment by canonical name (``momentum:conv1.weight``) of every parameter that has been updated."""
        return {f"{kind}:{name}": value for name, own in self._moments.items() for kind, value in own.items()}

    def step(self, tensors: dict[str, Float64], gradients: Mapping[str, Float64], rate: float) -> None:
        """Replace in ``tensors`` every parameter that has a gradient."""
        self.num_steps += 1
        update = self._sgd if self.settings.name == "sgd" else self._adam
        for name, gradient in gradients.items():
            tensors[name] = update(self._moments.setdefault(name, {}), rate, tensors[name], gradient)

    def _sgd(self, moments: dict[str, Float64], rate: float, weight: Float64, gradient: Float64) -> Float64:
        """Return the weight after gradient descent, g holding the L2 term.

        v = momentum v + g;  w -= rate v, or with Nesterov's look ahead w -= rate (g + momentum v).
        """
        own = self.settings
        gradient = gradient + own.weight_decay * weight
        if not own.momentum:
            return weight - rate * gradient
        velocity = own.momentum * moments.get("momentum", np.zeros_like(weight)) + gradient
        moments["momentum"] = velocity
        return weight - rate * (gradient + own.momentum * velocity if own.nesterov else velocity)

    def _adam(self, moments: dict[str, Float64], rate: float, weight: Float64, gradient: Float64) -> Float64:
        """Return the weight after algorithm 1 of Kingma & Ba (2015), or after AdamW, whose decay is apart from it.

        m = b1 m + (1 - b1) g;  s = b2 s + (1 - b2) g^2;  w -= rate (m / (1 - b1^t)) / (sqrt(s / (1 - b2^t)) + epsilon).
        """
        own, step = self.settings, self.num_steps
        first, second = own.betas
        if own.name == "adamw":
            weight = weight - rate * own.weight_decay * weight
        else:
            gradient = gradient + own.weight_decay * weight
        nothing = np.zeros_like(weight)
        mean = first * moments.get("exp_avg", nothing) + (1 - first) * gradient
        square = second * moments.get("exp_avg_sq", nothing) + (1 - second) * gradient**2
        moments["exp_avg"], moments["exp_avg_sq"] = mean, square
        return weight - rate * (mean / (1 - first**step)) / (np.sqrt(square / (1 - second**step)) + own.epsilon)


def clipped(gradients: Gradients, workload: Workload) -> Gradients:
    """Return the gradients scaled to the workload's norm where theirs is larger, or every element cut to its value."""
    if workload.clip_value is not None:
        limit = workload.clip_value
        return {name: np.clip(gradient, -limit, limit) for name, gradient in gradients.items()}
    assert workload.clip_norm is not None
    norm = math.sqrt(sum(float(np.square(gradient).sum()) for gradient in gradients.values()))
    factor = min(1.0, workload.clip_norm / (norm + CLIP_EPSILON))
    return {name: factor * gradient for name, gradient in gradients.items()}
