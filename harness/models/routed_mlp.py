"""A multi-layer perceptron whose first layer has an expert that only bright images use: parameters without a gradient.

Which samples it is lies in their pixels, so that every sharding routes alike; a rank that happens to have none of them
computes no gradient of the expert, and in a step without any nobody does. Built by PyTorch only.
"""

from __future__ import annotations

import math

from harness.models.base import Block, Dense, Flatten, Layer, ReLU, Shape, model, require_counts, site


@model("routed-mlp")
def routed_mlp(
    shape: Shape, num_classes: int, dropout: float, *, width: int = 32, threshold: float = 0.15
) -> tuple[Layer, ...]:
    """A routed layer of ``width``, dropout, one output per class; above ``threshold``, on average, an image is bright.

    Images are standardised: 0.15 is exceeded by one in 20 of the digits.
    """
    require_counts(width=width)
    settings = {"ins": math.prod(shape), "outs": width, "threshold": threshold}
    return (
        Flatten(),
        Block(name="routed", module="harness.loops.torch_routed:routed", settings=settings, routes=True),
        ReLU(),
        *site(1, dropout, width),
        Dense(name="dense1", in_features=width, out_features=num_classes),
    )
