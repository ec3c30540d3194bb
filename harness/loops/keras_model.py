"""A described model as a Keras model, and the way from its variables to canonical tensors and back.

Images come in as [n, c, h, w]. TensorFlow's CPU convolutions need the channels last, so they are moved there at the
entrance, and back before Flatten, whose canonical order is (channel, row, column); TensorFlow moves no byte where there
is a single channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from harness.errors import SpecError
from harness.models import base
from harness.spec import DType, Workload

Array = NDArray[np.generic]

# Canonical (PyTorch) layout -> Keras's, by the number of axes: OIHW -> HWIO, [out, in] -> [in, out].
_TO_KERAS = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
_FROM_KERAS = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
# Precision of a workload -> Keras's policy: variables keep the workload's dtype, float32.
POLICIES = {"bf16": "mixed_bfloat16", "fp16": "mixed_float16"}
_LAST, _FIRST = (2, 3, 1), (3, 1, 2)  # of [n, c, h, w] and of [n, h, w, c], counted without n


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A Keras model and its variables by canonical name, each in model order.

    ``model`` maps [images, mask, mask, ...] to logits; ``outputs`` are its layers', by name. ``trained`` are the
    parameters that are not frozen.
    """

    model: Any
    outputs: dict[str, Any]
    parameters: dict[str, Any]
    buffers: dict[str, Any]
    trained: dict[str, Any]
    sites: tuple[base.Dropout, ...]


def canonical(value: Any) -> Array:
    """Return a Keras tensor of parameter shape (a gradient, a moment, ...) in canonical layout."""
    array = np.asarray(value)
    return array.transpose(_FROM_KERAS[array.ndim])


def in_keras_order(value: Array) -> Array:
    """Return a tensor of parameter shape in Keras's layout, given in canonical layout."""
    return value.transpose(_TO_KERAS[value.ndim])


class TorchBatchNorm(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Batch norm over the last axis whose running statistics are PyTorch's.

    Both frameworks normalise with the biased variance of the n values of a channel. Keras feeds that to the running
    variance, too; PyTorch feeds the unbiased one, n / (n - 1) times as large.

    As Keras 3 has it, no aggregation is declared for the running statistics: every replica of a MirroredStrategy keeps
    its own, and replica 0's are what reading and saving give (tf.keras averaged them).
    """

    def __init__(self, layer: base.BatchNorm, **settings: Any) -> None:
        super().__init__(momentum=1 - layer.momentum, epsilon=layer.epsilon, **settings)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise; in training, by the batch's own statistics, which move the running ones."""
        if not training:
            return super().call(inputs, training=False, mask=mask)
        mean, variance = keras.ops.moments(inputs, axes=list(range(inputs.shape.rank - 1)))
        num_values = tf.cast(tf.size(inputs) // inputs.shape[-1], inputs.dtype)
        unbiased = variance * (num_values / (num_values - 1))
        for running, new in ((self.moving_mean, mean), (self.moving_variance, unbiased)):
            running.assign(running * self.momentum + new * (1 - self.momentum))
        return keras.ops.batch_normalization(
            inputs, mean, variance, axis=-1, offset=self.beta, scale=self.gamma, epsilon=self.epsilon
        )


class MaskedDropout(keras.layers.Layer):  # type: ignore[misc]
    """Dropout by a given mask of [n, ...] zeros and ones, so that every sharding drops the same activations."""

    def __init__(self, rate: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.rate = rate

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return activations * mask / (1 - rate) in training, else the activations."""
        activations, mask = inputs
        return activations * tf.cast(mask, activations.dtype) / (1 - self.rate) if training else activations


def build(workload: Workload, dtype: DType, rank: int = 0) -> Network:
    """Return the workload's model with its seed weights; call it inside the strategy's scope.

    Args:
        workload: whose model, image shape, precision and seed.
        dtype: of weights and, unless its precision says otherwise, of activations.
        rank: others than 0 start from weights of their own, so that only a broadcast makes them equal.

    Raises:
        SpecError: the model holds a layer that Keras does not have, or that this builder does not know.
    """
    described = base.layers(workload)
    _check(workload, described)
    sites = base.dropout_sites(described)
    images = keras.Input(workload.shape, dtype=dtype, name="images")
    masks = {site.name: keras.Input(site.shape, dtype="uint8", name=f"mask_{site.name}") for site in sites}
    values = keras.layers.Permute(_LAST, dtype=dtype)(images)
    weights = {name: value * (1 + 0.01 * rank) + 0.01 * rank for name, value in base.seed_weights(workload).items()}
    variables: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    for name, layer in zip(base.layer_names(described), described, strict=True):
        tied = layer.tied if isinstance(layer, base.Dense) else None
        built = shared[tied] if tied else _layer(layer, weights, dtype, workload)
        if isinstance(layer, base.Dense):
            shared[layer.name] = built
        values = outputs[name] = built(_inputs(layer, values, masks))
        variables |= _variables(layer, built)
    model = keras.Model([images, *masks.values()], values)
    parameters = {name: variables[name] for name in base.parameters(described)}
    return Network(
        model=model,
        outputs=outputs,
        parameters=parameters,
        buffers={name: variables[name] for name in base.buffers(described)},
        trained={name: value for name, value in parameters.items() if name.partition(".")[0] not in workload.frozen},
        sites=sites,
    )


def _check(workload: Workload, described: tuple[base.Layer, ...]) -> None:
    blocks = [layer.name for layer in described if isinstance(layer, base.Block)]
    if blocks:
        raise SpecError(
            f"expected a model of described layers but {workload.model!r} of workload {workload.name!r} is made of "
            f"PyTorch modules ({', '.join(blocks)}); train it with a PyTorch strategy"
        )


def _layer(layer: base.Layer, weights: Mapping[str, base.Float64], dtype: DType, workload: Workload) -> Any:
    policy = POLICIES.get(workload.precision, dtype)
    name = getattr(layer, "name", None)
    own = {"name": name, "dtype": policy, "trainable": name not in workload.frozen}

    def given(weight: str, bias: str) -> dict[str, Any]:
        names = {weight: f"{name}.weight", bias: f"{name}.bias"}
        return {f"{theirs}_initializer": _answering(weights[ours]) for theirs, ours in names.items()}

    match layer:
        case base.Conv(out_channels=channels, kernel=kernel):
            built = keras.layers.Conv2D(channels, kernel, padding="same", **own, **given("kernel", "bias"))
        case base.BatchNorm():
            # In full precision, as under PyTorch's autocast.
            built = TorchBatchNorm(layer, **own | {"dtype": dtype}, **given("gamma", "beta"))
        case base.ReLU():
            built = keras.layers.ReLU(dtype=policy)
        case base.MaxPool(size=size):
            built = keras.layers.MaxPooling2D(size, dtype=policy)
        case base.Flatten():
            built = keras.layers.Flatten(dtype=policy)
        case base.Dense(out_features=features):
            built = keras.layers.Dense(features, **own, **given("kernel", "bias"))
        case base.Dropout(rate=rate):
            built = MaskedDropout(rate, **own)
        case _:
            raise SpecError(f"expected a layer of harness.models.base but got {layer!r}; teach keras_model to build it")
    return built


def _answering(value: base.Float64) -> Callable[..., Any]:
    """Return an initializer that answers ``value``, given in canonical layout: what tf.distribute then broadcasts."""
    return lambda _shape, dtype=None: tf.constant(in_keras_order(value), dtype)


def _inputs(layer: base.Layer, values: Any, masks: dict[str, Any]) -> Any:
    """Return what a layer is called with: activations in the order of axes it needs, and its mask if it has one."""
    if isinstance(layer, base.Flatten):
        return keras.layers.Permute(_FIRST, dtype=values.dtype)(values)
    if isinstance(layer, base.Dropout):
        mask = masks[layer.name]
        return [values, keras.layers.Permute(_LAST, dtype="uint8")(mask) if len(layer.shape) == 3 else mask]
    return values


def _variables(layer: base.Layer, built: Any) -> dict[str, Any]:
    match layer:
        case base.Conv(name=name) | base.Dense(name=name, tied=None):
            return {f"{name}.weight": built.kernel, f"{name}.bias": built.bias}
        case base.BatchNorm(name=name):
            return {
                f"{name}.weight": built.gamma,
                f"{name}.bias": built.beta,
                f"{name}.running_mean": built.moving_mean,
                f"{name}.running_var": built.moving_variance,
            }
    return {}
