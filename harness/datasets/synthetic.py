"""Seeded images of any shape and number of classes: a smooth prototype per class, plus noise."""

from __future__ import annotations

import numpy as np

from harness.datasets.base import Data, dataset
from harness.spec import Workload

_NUM_SAMPLES = 512
_MIN_HELD_OUT = 64
_COARSE = 4  # prototypes are drawn on a grid of 4x4 tiles, so that convolutions can learn them
_NOISE = 0.5  # standard deviation, against 1 of the prototypes


@dataset("synthetic", uses=("seed", "num_samples"))
def synthetic(workload: Workload, _data_root: str | None) -> Data:
    """Draw ``workload.num_samples`` (512 unless given) training images and a quarter as many, at least 64, held out."""
    num_train = workload.num_samples or _NUM_SAMPLES
    num_held_out = max(_MIN_HELD_OUT, num_train // 4)
    draw = np.random.default_rng([workload.seed, 5])
    channels, height, width = workload.shape
    coarse = draw.standard_normal((workload.num_classes, channels, _COARSE, _COARSE))
    rows, columns = np.arange(height) * _COARSE // height, np.arange(width) * _COARSE // width
    prototypes = coarse[:, :, rows][:, :, :, columns].astype(np.float32)
    labels = draw.permutation(num_train + num_held_out).astype(np.int64) % workload.num_classes
    noise = draw.standard_normal((len(labels), *workload.shape), dtype=np.float32)
    images = prototypes[labels] + np.float32(_NOISE) * noise
    mean = images[:num_train].mean(dtype=np.float64)
    deviation = images[:num_train].std(dtype=np.float64)
    standardised = ((images - mean) / deviation).astype(np.float32)
    return Data(
        images=standardised[:num_train],
        labels=labels[:num_train],
        held_out_images=standardised[num_train:],
        held_out_labels=labels[num_train:],
        num_classes=workload.num_classes,
    )
