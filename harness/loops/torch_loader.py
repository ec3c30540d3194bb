"""A training's batches from torch's DataLoader, whose worker processes make one sample after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from harness.datasets.batches import Batch
from harness.loops.torch_parallelism import Fetch
from harness.plan import Step

# The step that trains a sample, and its global index: a step's augmentation is drawn for it.
Key: TypeAlias = tuple[int, int]


class Samples(Dataset[tuple[Any, ...]]):
    """Every sample of every step: its index, image, label and dropout masks, whichever process makes it."""

    def __init__(self, make: Fetch) -> None:
        self._make = make

    def __getitem__(self, key: Key) -> tuple[Any, ...]:
        step, index = key
        batch = self._make(step, np.array([index], dtype=np.int64))
        return index, batch.images[0], batch.labels[0], *(mask[0] for mask in batch.masks)


def keys(steps: Sequence[Step]) -> list[list[Key]]:
    """Return the samples of each micro-batch, in the order in which they are trained."""
    return [[(step.number, int(index)) for index in batch] for step in steps for batch in step.micro_batches]


def feed(make: Fetch, steps: Sequence[Step], *, num_workers: int) -> Fetch:
    """Return what hands over the micro-batches of ``steps`` one after the other, made by worker processes."""
    return delivered(DataLoader(Samples(make), batch_sampler=keys(steps), num_workers=num_workers))


def delivered(loader: Iterable[Sequence[torch.Tensor]]) -> Fetch:
    """Return what hands over the batches of a loader, whatever was wanted: each says itself what it holds."""
    batches = iter(loader)

    def fetch(_step: int, _samples: object) -> Batch:
        samples, images, labels, *masks = (tensor.numpy() for tensor in next(batches))
        return Batch(samples=samples, images=images, labels=labels, masks=tuple(masks))

    return fetch
