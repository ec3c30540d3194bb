"""A multi-layer perceptron in which two layers use one weight and one bias: their gradients must add up."""

from __future__ import annotations

import math

from harness.models.base import Dense, Flatten, Layer, ReLU, Shape, model, require_counts, site


@model("tied-mlp")
def tied_mlp(shape: Shape, num_classes: int, dropout: float, *, width: int = 32) -> tuple[Layer, ...]:
    """Four hidden layers of ``width``, the fourth with the weight and bias of the second; one output per class.

    images -> dense1 -> dense2 -> dense3 -> dense4 (= dense2) -> dense5 -> logits
    """
    require_counts(width=width)
    return (
        Flatten(),
        *_hidden(1, dropout, math.prod(shape), width),
        *_hidden(2, dropout, width, width),
        *_hidden(3, dropout, width, width),
        *_hidden(4, dropout, width, width, tied="dense2"),
        Dense(name="dense5", in_features=width, out_features=num_classes),
    )


def _hidden(number: int, dropout: float, ins: int, outs: int, *, tied: str | None = None) -> tuple[Layer, ...]:
    dense = Dense(name=f"dense{number}", in_features=ins, out_features=outs, tied=tied)
    return (dense, ReLU(), *site(number, dropout, outs))
