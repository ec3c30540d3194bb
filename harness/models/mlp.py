"""A multi-layer perceptron, of two hidden layers unless asked otherwise: the smallest model worth training."""

from __future__ import annotations

import itertools
import math

from harness.models.base import Dense, Flatten, Layer, ReLU, Shape, model, require_counts, site


@model("mlp")
def mlp(shape: Shape, num_classes: int, dropout: float, *, width: int = 64, depth: int = 2) -> tuple[Layer, ...]:
    """Flatten, ``depth`` hidden layers, the first of ``width``, each next half as wide; dropout after each."""
    require_counts(width=width, depth=depth)
    sizes = [math.prod(shape), *(max(1, width >> number) for number in range(depth))]
    layers: list[Layer] = [Flatten()]
    for number, (ins, outs) in enumerate(itertools.pairwise(sizes), start=1):
        layers += [
            Dense(name=f"dense{number}", in_features=ins, out_features=outs),
            ReLU(),
            *site(number, dropout, outs),
        ]
    return (*layers, Dense(name=f"dense{depth + 1}", in_features=sizes[-1], out_features=num_classes))
