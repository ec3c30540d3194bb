"""A small convolutional network without batch norm: fast, and equal to the bit of rounding under any sharding."""

from __future__ import annotations

import math

from harness.models.base import Conv, Dense, Dropout, Flatten, Layer, MaxPool, ReLU, Shape, model, pooled


@model("simple-cnn")
def simple_cnn(shape: Shape, num_classes: int, dropout: float) -> tuple[Layer, ...]:
    """Two convolutions (16 and 32 channels), each halved by max-pooling; dense 64, dropout, one output per class."""
    height, width = pooled(pooled(shape))[1:]
    site = Dropout(name="dropout1", rate=dropout, shape=(64,))
    return (
        Conv(name="conv1", in_channels=shape[0], out_channels=16),
        ReLU(),
        MaxPool(),
        Conv(name="conv2", in_channels=16, out_channels=32),
        ReLU(),
        MaxPool(),
        Flatten(),
        Dense(name="dense1", in_features=math.prod((32, height, width)), out_features=64),
        ReLU(),
        *((site,) if dropout else ()),
        Dense(name="dense2", in_features=64, out_features=num_classes),
    )
