"""Synthetic images: any shape and number of classes, seeded, learnable."""

from __future__ import annotations

import numpy as np
import pytest

from harness.datasets.base import Data
from harness.datasets.synthetic import synthetic
from harness.spec import Workload


def make(**settings: object) -> Data:
    return synthetic(Workload(name="w", model="mlp", dataset="synthetic", **settings), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 5, 9), (2, 1, 1)])
@pytest.mark.parametrize("num_classes", [1, 3, 10])
def test_any_shape_and_number_of_classes(shape: tuple[int, int, int], num_classes: int) -> None:
    data = make(shape=shape, num_classes=num_classes, num_samples=40)
    assert data.images.shape == (40, *shape)
    assert data.images.dtype == np.float32
    assert len(data.held_out_labels) == 64
    assert set(data.held_out_labels) == set(range(num_classes))
    assert abs(data.images.std(dtype=np.float64) - 1) < 1e-5


def test_the_seed_decides() -> None:
    np.testing.assert_array_equal(make(seed=1).images, make(seed=1).images)
    assert (make(seed=1).images != make(seed=2).images).any()


def accuracy_of_nearest_mean(data: Data, labels: np.ndarray) -> float:
    means = np.stack([data.images[labels == label].mean(0) for label in range(data.num_classes)])
    distances = ((data.held_out_images[:, None] - means) ** 2).sum((2, 3, 4))
    return float((distances.argmin(1) == data.held_out_labels).mean())


def test_the_classes_can_be_learnt() -> None:
    data = make(num_classes=5)
    assert accuracy_of_nearest_mean(data, data.labels) > 0.95


def test_with_shuffled_labels_there_is_nothing_to_learn() -> None:
    data = make(num_classes=5)
    assert accuracy_of_nearest_mean(data, np.random.default_rng(0).permutation(data.labels)) < 0.5
