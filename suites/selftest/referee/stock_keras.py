"""A program: what stock Keras and Lockstep's Keras compute from the same numbers, as one JSON object on stdout.

It is run in a process of its own, as pytest's imports no framework.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from known_differences import CLIP_NORM, CONV_IMAGE, GRADIENTS, LAYER, NORM_BATCHES, OPTIMIZERS, RATES, START

from harness.loops.keras_model import TorchBatchNorm
from harness.loops.keras_optimizer import create
from harness.loops.keras_step import clip
from harness.spec import Optimizer, Workload


def stock(settings: Optimizer) -> Any:
    """Return the optimizer that a user of Keras would write down from the same settings."""
    decay = settings.weight_decay or None
    if settings.name == "sgd":
        return keras.optimizers.SGD(
            settings.learning_rate, settings.momentum, nesterov=settings.nesterov, weight_decay=decay
        )
    kind = keras.optimizers.Adam if settings.name == "adam" else keras.optimizers.AdamW
    first, second = settings.betas
    return kind(settings.learning_rate, beta_1=first, beta_2=second, epsilon=settings.epsilon, weight_decay=decay)


def trajectory(optimizer: Any, prepare: Callable[[Any, int], None] = lambda _optimizer, _step: None) -> Any:
    """Return where a vector goes, a row a step."""
    variable = keras.Variable(START, dtype="float64")
    optimizer.build([variable])
    rows = []
    for step, (rate, gradient) in enumerate(zip(RATES, GRADIENTS, strict=True), 1):
        optimizer.learning_rate.assign(rate)
        prepare(optimizer, step)
        optimizer.apply([tf.constant(gradient, tf.float64)], [variable])
        rows.append(variable.numpy().tolist())
    return rows


def statistics(layer: Any) -> dict[str, Any]:
    """Return what a batch norm puts out in training, batch by batch, and what it remembers in the end."""
    outputs = [layer(tf.constant(batch, tf.float64), training=True).numpy().tolist() for batch in NORM_BATCHES]
    remembered = (layer.moving_mean.numpy().tolist(), layer.moving_variance.numpy().tolist())
    return {"outputs": outputs, "running_mean": remembered[0], "running_var": remembered[1]}


def clipped(gradients: Sequence[Any]) -> dict[str, Any]:
    own = clip(gradients, Workload(name="w", model="mlp", dataset="digits", clip_norm=CLIP_NORM))
    theirs, _ = tf.clip_by_global_norm(gradients, CLIP_NORM)
    optimizer = keras.optimizers.SGD(1.0, global_clipnorm=CLIP_NORM)
    variables = [keras.Variable(tf.zeros_like(gradient), dtype="float64") for gradient in gradients]
    optimizer.build(variables)
    optimizer.apply(gradients, variables)
    return {
        "ours": [value.numpy().tolist() for value in own],
        "tensorflow": [value.numpy().tolist() for value in theirs],
        "stock": [(-variable.numpy()).tolist() for variable in variables],
    }


def padded(kernel: int) -> Any:
    """Return the sums over a window of ``kernel`` x ``kernel``, as padding="same" places it."""
    layer = keras.layers.Conv2D(1, kernel, padding="same", kernel_initializer="ones", dtype="float64")
    return layer(tf.constant(CONV_IMAGE, tf.float64)[None, ..., None]).numpy()[0, ..., 0].tolist()


def main() -> None:
    keras.backend.set_floatx("float64")

    def corrected(optimizer: Any, step: int) -> None:
        optimizer.epsilon = OPTIMIZERS["adam"].epsilon * float(np.sqrt(1 - np.float64(np.float32(0.999)) ** step))

    found = {
        "ours": {name: trajectory(create(settings)) for name, settings in OPTIMIZERS.items()},
        "stock": {name: trajectory(stock(settings)) for name, settings in OPTIMIZERS.items()},
        "stock, epsilon corrected": trajectory(stock(OPTIMIZERS["adam"]), corrected),
        "norm": {
            "ours": statistics(TorchBatchNorm(LAYER, dtype="float64")),
            "stock": statistics(
                keras.layers.BatchNormalization(momentum=1 - LAYER.momentum, epsilon=LAYER.epsilon, dtype="float64")
            ),
            "default": statistics(keras.layers.BatchNormalization(dtype="float64")),
        },
        "clip": clipped([tf.constant(gradient, tf.float64) for gradient in GRADIENTS[:2]]),
        "same": {str(kernel): padded(kernel) for kernel in (2, 3)},
        "defaults": {
            "adam": keras.optimizers.Adam().epsilon,
            "norm": [keras.layers.BatchNormalization().momentum, keras.layers.BatchNormalization().epsilon],
        },
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
