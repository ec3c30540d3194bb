"""Keras optimizers with the workload's maths: PyTorch's algebra in ``update_step``, everything else Keras's own.

Where stock Keras 3.15 computes something else from settings of the same name:

==============  =========================================  ====================================================
setting         Keras                                      here (and in PyTorch)
==============  =========================================  ====================================================
SGD momentum    v = m v - lr g;  w += v                    v = m v + g;  w -= lr v
                (a change of lr acts on new gradients      (a change of lr acts on the whole velocity)
                only)
weight_decay    decoupled, w -= lr wd w, for every         an L2 term of the gradient for sgd and adam,
                optimizer                                  decoupled for adamw
Adam epsilon    w -= a m / (sqrt(v) + eps): "epsilon hat"  added after the bias correction of v
                of Kingma & Ba 2015, section 2             (algorithm 1)
global clip     inside ``apply``, before the sum over      after it: see ``keras_step``
                replicas
constants       0.9, 0.999, weight_decay rounded to        in the parameters' precision
                float32 by ``ops.cast``, even in float64
==============  =========================================  ====================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from harness import spec


class _Ours:
    """What both optimizers share: they take gradients that are already summed over the replicas.

    Keras clips before it reduces, so a workload that clips has to reduce first; reducing again inside ``apply``
    would multiply by the number of replicas.
    """

    settings: spec.Optimizer

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars

    def get_config(self) -> dict[str, Any]:
        """Return what a copy is made from, as libraries do that wrap an optimizer."""
        return {"settings": self.settings}


# Moments are added to, never assigned: workers of a parameter server would undo each other's updates.


class SGD(_Ours, keras.optimizers.SGD):  # type: ignore[misc]
    """Gradient descent with momentum as torch.optim.SGD computes it."""

    def __init__(self, settings: spec.Optimizer) -> None:
        super().__init__(settings.learning_rate, momentum=settings.momentum, nesterov=settings.nesterov)
        self.settings, self.decay = settings, settings.weight_decay

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one parameter on one replica."""
        rate = tf.cast(learning_rate, variable.dtype)
        if self.decay:
            gradient += self.decay * variable
        if self.momentum:
            velocity = self.momentums[self._get_variable_index(variable)]
            self.assign_add(velocity, gradient - (1 - self.momentum) * velocity)
            gradient = gradient + self.momentum * velocity if self.nesterov else velocity
        self.assign_sub(variable, rate * gradient)


class Adam(_Ours, keras.optimizers.Adam):  # type: ignore[misc]
    """Adam, or AdamW, as torch.optim computes them."""

    def __init__(self, settings: spec.Optimizer) -> None:
        first, second = settings.betas
        super().__init__(settings.learning_rate, beta_1=first, beta_2=second, epsilon=settings.epsilon)
        self.settings, self.decay = settings, settings.weight_decay
        self.decoupled = settings.name == "adamw"

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one parameter on one replica."""
        rate = tf.cast(learning_rate, variable.dtype)
        index = self._get_variable_index(variable)
        mean, square = self._momentums[index], self._velocities[index]
        step = tf.cast(self.iterations + 1, variable.dtype)
        if self.decay and self.decoupled:
            self.assign_sub(variable, rate * self.decay * variable)
        elif self.decay:
            gradient += self.decay * variable
        self.assign_add(mean, (gradient - mean) * (1 - self.beta_1))
        self.assign_add(square, (gradient * gradient - square) * (1 - self.beta_2))
        first, second = (1 - tf.constant(beta, variable.dtype) ** step for beta in (self.beta_1, self.beta_2))
        corrected = tf.sqrt(square / second)
        self.assign_sub(variable, rate / first * mean / (corrected + self.epsilon))


def create(settings: spec.Optimizer) -> Any:
    """Return the workload's optimizer, to be built inside the strategy's scope."""
    return SGD(settings) if settings.name == "sgd" else Adam(settings)


def state(optimizer: Any, index: int) -> Iterator[tuple[str, Any]]:
    """Yield the state of the parameter at ``index`` as (canonical name, Keras variable)."""
    if isinstance(optimizer, Adam):
        yield "exp_avg", optimizer._momentums[index]
        yield "exp_avg_sq", optimizer._velocities[index]
    elif optimizer.momentums:
        yield "momentum", optimizer.momentums[index]


def num_updates(optimizer: Any) -> Any | None:
    """Return the variable that counts updates where the algorithm depends on it (Adam), else None."""
    return optimizer.iterations if isinstance(optimizer, Adam) else None
