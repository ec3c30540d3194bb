"""The numbers from which both sides of a known difference between frameworks are computed."""

from __future__ import annotations

import numpy as np

from harness.models.base import BatchNorm
from harness.spec import Optimizer

_draw = np.random.default_rng(0)
START = _draw.normal(size=5).tolist()
# The rate changes after the third step.
RATES = [0.1, 0.1, 0.1, 0.05, 0.05, 0.05]
CONSTANT = 3
GRADIENTS = _draw.normal(size=(len(RATES), 5)).tolist()
CLIP_NORM = 0.5
LAYER = BatchNorm(name="bn", num_features=3)
NORM_BATCHES = _draw.normal(loc=1.0, size=(2, 7, 3)).tolist()
CONV_IMAGE = np.arange(9.0).reshape(3, 3).tolist()
OPTIMIZERS = {
    "plain": Optimizer(name="sgd", momentum=0.0),
    "momentum": Optimizer(name="sgd", momentum=0.9),
    "nesterov": Optimizer(name="sgd", momentum=0.9, nesterov=True),
    "sgd, weight decay": Optimizer(name="sgd", momentum=0.0, weight_decay=0.1),
    "momentum, weight decay": Optimizer(name="sgd", momentum=0.9, weight_decay=0.1),
    # An epsilon that a float64 cannot lose beside the gradients.
    "adam": Optimizer(name="adam", epsilon=1e-3),
    "adamw": Optimizer(name="adamw", epsilon=1e-3, weight_decay=0.1),
    "adam, weight decay": Optimizer(name="adam", epsilon=1e-3, weight_decay=0.1),
}
