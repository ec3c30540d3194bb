"""A batch holds the same numbers for a sample whoever else is in it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.datasets.base import Data
from harness.datasets.batches import REACH, Batch, make_batch, shifted
from harness.datasets.synthetic import synthetic
from harness.models.base import Dropout
from harness.spec import Workload

WORKLOAD = Workload(
    name="w", model="mlp", dataset="synthetic", augment="shift", dropout=0.5, num_samples=40, shape=(2, 6, 7)
)
SITES = (Dropout(name="dropout1", rate=0.5, shape=(3, 2, 2)), Dropout(name="dropout2", rate=0.25, shape=(5,)))


@pytest.fixture(scope="module")
def data() -> Data:
    return synthetic(WORKLOAD, None)


def batch(data: Data, samples: NDArray[np.int64], *, training: bool = True, step: int = 4) -> Batch:
    return make_batch(WORKLOAD, data, samples, step=step, dtype="float64", sites=SITES, training=training)


def test_sharding_and_order_change_no_number(data: Data) -> None:
    order = np.random.default_rng(0).permutation(40)
    whole = batch(data, order)
    shards = [batch(data, shard) for shard in np.array_split(order, 3)]
    for name in ("samples", "images", "labels"):
        joined = np.concatenate([getattr(shard, name) for shard in shards])
        np.testing.assert_array_equal(getattr(whole, name), joined)
    for site in range(len(SITES)):
        np.testing.assert_array_equal(whole.masks[site], np.concatenate([shard.masks[site] for shard in shards]))


def test_masks_come_one_per_site_in_model_order(data: Data) -> None:
    masks = batch(data, np.arange(8)).masks
    assert [mask.shape for mask in masks] == [(8, 3, 2, 2), (8, 5)]
    assert all(mask.dtype == np.uint8 for mask in masks)


def test_another_step_is_another_augmentation_and_other_masks(data: Data) -> None:
    first, second = batch(data, np.arange(8), step=0), batch(data, np.arange(8), step=1)
    assert (first.images != second.images).any()
    assert (first.masks[0] != second.masks[0]).any()
    np.testing.assert_array_equal(first.labels, second.labels)


def test_in_evaluation_images_are_untouched_and_there_are_no_masks(data: Data) -> None:
    samples = np.array([5, 1])
    evaluated = batch(data, samples, training=False)
    np.testing.assert_array_equal(evaluated.images, data.images[samples])
    assert evaluated.masks == ()


@pytest.mark.parametrize("augment", ["none", "shift"])
def test_arrays_are_fresh_contiguous_and_in_the_asked_dtype(augment: str, data: Data) -> None:
    data.images.flags.writeable = False
    plain = Workload(name="w", model="mlp", dataset="synthetic", augment=augment, shape=(2, 6, 7))  # type: ignore[arg-type]
    made = make_batch(plain, data, np.arange(4), step=0, dtype="float32", sites=())
    assert made.images.dtype == np.float32
    assert made.labels.dtype == np.int64
    assert made.images.flags.writeable
    assert made.images.flags.c_contiguous
    assert not np.shares_memory(made.images, data.images)


def test_a_shift_moves_down_and_right_and_uncovers_zeros() -> None:
    image = np.arange(1, 13, dtype=np.float32).reshape(1, 1, 3, 4)
    down_left = shifted(image, np.array([[1, -2]]))
    assert down_left[0, 0].tolist() == [[0, 0, 0, 0], [3, 4, 0, 0], [7, 8, 0, 0]]
    np.testing.assert_array_equal(shifted(image, np.array([[0, 0]])), image)


def test_shifting_agrees_with_a_pixel_by_pixel_account() -> None:
    draw = np.random.default_rng(0)
    images = draw.random((9, 2, 5, 6), dtype=np.float32)
    moves = draw.integers(-REACH, REACH + 1, (9, 2))
    expected = np.zeros_like(images)
    for n, (down, right) in enumerate(moves):
        for y in range(5):
            for x in range(6):
                if 0 <= y - down < 5 and 0 <= x - right < 6:
                    expected[n, :, y, x] = images[n, :, y - down, x - right]
    np.testing.assert_array_equal(shifted(images, moves), expected)
