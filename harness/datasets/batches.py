"""The numbers of one batch: images, labels and dropout masks, the same for every sharding and framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import draws
from harness.datasets.base import Data
from harness.models.base import Dropout
from harness.plan import Indices
from harness.spec import Workload

REACH = 2  # pixels by which the augmentation "shift" moves an image at most


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Samples by global index: images [n, c, h, w] in the asked dtype, labels int64 [n].

    ``masks`` holds one uint8 array [n, *site.shape] (1 = kept) per dropout site, in model order; empty in evaluation.
    """

    samples: Indices
    images: NDArray[Any]
    labels: NDArray[np.int64]
    masks: tuple[NDArray[np.uint8], ...]


def make_batch(
    workload: Workload,
    data: Data,
    samples: Indices,
    *,
    step: int,
    dtype: str,
    sites: Sequence[Dropout],
    training: bool = True,
) -> Batch:
    """Return the training samples of ``step`` with these global indices; all arrays are fresh and writable.

    In evaluation (``training=False``) the same samples come without augmentation and masks.
    """
    images = data.images[samples]
    if training and workload.augment == "shift":
        images = shifted(images, draws.shifts(workload.seed, step, samples, REACH))
    masks = tuple(draws.keep_mask(workload.seed, step, site.name, samples, site.shape, site.rate) for site in sites)
    return Batch(
        samples=samples,
        images=images.astype(dtype, copy=False),
        labels=data.labels[samples],
        masks=masks if training else (),
    )


def shifted(images: NDArray[np.float32], displacements: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return images [n, c, h, w] moved down and right by whole pixels (dy, dx) [n, 2]; what is uncovered is 0.

    Images are standardised, so 0 is their mean.
    """
    height, width = images.shape[2:]
    reach = int(np.abs(displacements).max(initial=0))
    padded = np.pad(images, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    corners = reach - displacements
    moved: NDArray[np.float32] = windows[np.arange(len(images)), :, corners[:, 0], corners[:, 1]]
    return moved
