"""What every layer of a Keras model puts out, in canonical layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from harness.loops.keras_model import Array, Network


def outputs(network: Network, images: Any, masks: Sequence[Any]) -> Iterator[tuple[str, Array]]:
    """Yield every layer's name and its output in training, images as [n, c, h, w]; running statistics stay."""
    layered = keras.Model(network.model.inputs, list(network.outputs.values()))
    buffers = [variable.value for variable in network.buffers.values()]
    kept = [buffer.numpy() for buffer in buffers]
    values = layered([images, *masks], training=True)
    for buffer, value in zip(buffers, kept, strict=True):
        buffer.assign(value)
    for name, value in zip(network.outputs, values, strict=True):
        array = np.asarray(value)
        yield name, array.transpose(0, 3, 1, 2) if array.ndim == 4 else array
