"""A small convolutional network without batch norm: fast, and equal to the bit of rounding under any sharding."""

from __future__ import annotations

import math

from harness.models.base import (
    Conv,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    ReLU,
    Shape,
    model,
    pooled,
    require_counts,
    site,
)


@model("simple-cnn")
def simple_cnn(shape: Shape, num_classes: int, dropout: float, *, width: int = 16) -> tuple[Layer, ...]:
    """Convolutions of w and 2w channels, each halved by max-pooling; dense 4w, dropout, one output per class."""
    require_counts(width=width)
    height, columns = pooled(pooled(shape))[1:]
    return (
        Conv(name="conv1", in_channels=shape[0], out_channels=width),
        ReLU(),
        MaxPool(),
        Conv(name="conv2", in_channels=width, out_channels=2 * width),
        ReLU(),
        MaxPool(),
        Flatten(),
        Dense(name="dense1", in_features=math.prod((2 * width, height, columns)), out_features=4 * width),
        ReLU(),
        *site(1, dropout, 4 * width),
        Dense(name="dense2", in_features=4 * width, out_features=num_classes),
    )
