"""A described model in numpy: every layer's output in order, then the derivatives from the loss back to the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import SpecError
from harness.models import base
from harness.models.base import Float64
from harness.referee import layers
from harness.referee.layers import Gradients, Pass
from harness.spec import Workload


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A model and its tensors by canonical name: parameters and running statistics, replaced as training goes on."""

    described: tuple[base.Layer, ...]
    names: tuple[str, ...]
    tensors: dict[str, Float64]
    parameters: tuple[str, ...]
    trained: tuple[str, ...]
    buffers: tuple[str, ...]

    def forward(self, images: Float64, masks: Sequence[NDArray[np.uint8]]) -> list[Pass]:
        """Return every layer's pass in training, running statistics moved; ``masks`` holds one for each dropout."""
        left, values, passes = iter(masks), images, []
        for layer in self.described:
            passes.append(self._pass(layer, values, left))
            values = passes[-1].output
        return passes

    def backward(self, passes: Sequence[Pass], dy: Float64) -> Gradients:
        """Return the gradient of every trained parameter, from that of the last layer's output."""
        gradients = {name: np.zeros_like(self.tensors[name]) for name in self.trained}
        owners = [_owner(layer) for layer in self.described]
        lowest = min(number for number, owner in enumerate(owners) if f"{owner}.weight" in gradients)
        for number in range(len(passes) - 1, lowest - 1, -1):
            if f"{owners[number]}.weight" in gradients:
                for kind, value in passes[number].to_weights(dy).items():
                    # Layers that share a weight add up.
                    gradients[f"{owners[number]}.{kind}"] += value
            dy = passes[number].to_input(dy) if number > lowest else dy
        return gradients

    def predict(self, images: Float64) -> Float64:
        """Return logits in evaluation: nothing is dropped, running statistics normalise."""
        values = images
        for layer in self.described:
            match layer:
                case base.BatchNorm(epsilon=epsilon):
                    values = layers.normalised(values, self._own(layer), epsilon)
                case base.Dropout():
                    continue
                case _:
                    values = self._pass(layer, values, iter(())).output
        return values

    def _pass(self, layer: base.Layer, x: Float64, masks: Iterator[NDArray[np.uint8]]) -> Pass:
        own = self._own(layer)
        match layer:
            case base.Dense():
                found = layers.dense(x, own["weight"], own["bias"])
            case base.Conv():
                found = layers.convolution(x, own["weight"], own["bias"])
            case base.BatchNorm(name=name, momentum=momentum, epsilon=epsilon):
                for kind, value in layers.moved_statistics(x, own, momentum).items():
                    self.tensors[f"{name}.{kind}"] = value
                found = layers.batch_norm(x, own["weight"], own["bias"], epsilon)
            case base.ReLU():
                found = layers.relu(x)
            case base.MaxPool(size=size):
                found = layers.max_pool(x, size)
            case base.Flatten():
                found = layers.flatten(x)
            case base.Dropout(rate=rate):
                found = layers.dropout(x, next(masks).astype(x.dtype), rate)
            case _:
                raise SpecError(
                    f"expected a layer that the referee knows but got {layer!r}; define it in harness.referee.layers"
                )
        return found

    def _own(self, layer: base.Layer) -> Gradients:
        prefix = f"{_owner(layer)}."
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


def build(workload: Workload) -> Network:
    """Return the workload's model with its seed weights.

    Raises:
        SpecError: it holds PyTorch modules.
    """
    described = base.layers(workload)
    if base.has_blocks(described):
        raise SpecError(
            f"expected a model of described layers but {workload.model!r} of workload {workload.name!r} holds PyTorch "
            "modules, which have no definition in numpy; judge it with a PyTorch reference"
        )
    parameters = tuple(base.parameters(described))
    return Network(
        described=described,
        names=base.layer_names(described),
        tensors=base.seed_weights(workload),
        parameters=parameters,
        trained=tuple(name for name in parameters if name.partition(".")[0] not in workload.frozen),
        buffers=tuple(base.buffers(described)),
    )


def _owner(layer: base.Layer) -> str:
    """Return the name under which a layer's weights are kept; empty where it has none."""
    if isinstance(layer, base.Dense) and layer.tied is not None:
        return layer.tied
    return getattr(layer, "name", "")
