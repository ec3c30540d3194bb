"""A multi-layer perceptron with two hidden layers: the smallest model worth training."""

from __future__ import annotations

import math

from harness.models.base import Dense, Dropout, Flatten, Layer, ReLU, Shape, model


@model("mlp")
def mlp(shape: Shape, num_classes: int, dropout: float) -> tuple[Layer, ...]:
    """Flatten, dense 64, dense 32, one output per class; dropout after each hidden layer."""
    first = Dropout(name="dropout1", rate=dropout, shape=(64,))
    second = Dropout(name="dropout2", rate=dropout, shape=(32,))
    return (
        Flatten(),
        Dense(name="dense1", in_features=math.prod(shape), out_features=64),
        ReLU(),
        *((first,) if dropout else ()),
        Dense(name="dense2", in_features=64, out_features=32),
        ReLU(),
        *((second,) if dropout else ()),
        Dense(name="dense3", in_features=32, out_features=num_classes),
    )
