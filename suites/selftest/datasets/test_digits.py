"""The embedded digits: real, resized, split by class, standardised."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from harness.datasets import digits as module
from harness.datasets.base import Data
from harness.datasets.digits import digits, resized, stratified_split
from harness.errors import DataError, MissingRequirementError, SpecError
from harness.spec import Workload


def workload(**settings: object) -> Workload:
    return Workload(name="w", model="mlp", dataset="digits", **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data() -> Data:
    if importlib.util.find_spec("sklearn") is None:
        pytest.skip("digits ship inside scikit-learn, which is not installed")
    return digits(workload(), None)


def test_all_digits_are_there_once(data: Data) -> None:
    assert data.images.shape == (1438, 1, 28, 28)
    assert data.held_out_images.shape == (359, 1, 28, 28)
    counts = np.bincount(np.concatenate([data.labels, data.held_out_labels]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as published
    assert len({image.tobytes() for image in (*data.images, *data.held_out_images)}) == 1797


def test_a_fifth_of_every_class_is_held_out(data: Data) -> None:
    held_out = np.bincount(data.held_out_labels)
    share = held_out / (held_out + np.bincount(data.labels))
    assert np.abs(share - 0.2).max() < 0.005


def test_the_first_samples_show_every_class(data: Data) -> None:
    """The equality check trains on the first 91 only."""
    assert set(data.labels[:91]) == set(range(10))
    assert set(data.held_out_labels[:64]) == set(range(10))


def test_training_images_have_mean_zero_and_deviation_one(data: Data) -> None:
    assert data.images.dtype == np.float32
    assert abs(data.images.mean(dtype=np.float64)) < 1e-6
    assert abs(data.images.std(dtype=np.float64) - 1) < 1e-6


def test_a_nearest_neighbour_knows_the_held_out_digits(data: Data) -> None:
    """Images belong to their labels: one-nearest-neighbour is known to reach about 98 % on these digits."""
    train, held_out = data.images[:, 0, ::4, ::4], data.held_out_images[:100, 0, ::4, ::4]
    distances = ((train[None] - held_out[:, None]) ** 2).sum((2, 3))
    assert (data.labels[distances.argmin(1)] == data.held_out_labels[:100]).mean() > 0.93


def test_the_split_does_not_follow_the_seed_of_the_training(data: Data) -> None:
    np.testing.assert_array_equal(digits(workload(seed=5), None).labels, data.labels)


def test_num_samples_takes_the_first_so_many(data: Data) -> None:
    few = digits(workload(num_samples=100), None)
    np.testing.assert_array_equal(few.images, data.images[:100])
    np.testing.assert_array_equal(few.held_out_images, data.held_out_images)


@pytest.mark.usefixtures("data")
def test_more_samples_than_there_are_is_an_error() -> None:
    with pytest.raises(SpecError, match=r"num_samples of at most 1438.*num_samples=1439"):
        digits(workload(num_samples=1439), None)


@pytest.mark.usefixtures("data")
def test_any_height_and_width_but_only_one_channel() -> None:
    assert digits(workload(shape=(1, 8, 10)), None).images.shape[1:] == (1, 8, 10)
    with pytest.raises(SpecError, match="expected one channel"):
        digits(workload(shape=(3, 28, 28)), None)


def test_resizing_to_the_same_size_changes_nothing() -> None:
    images = np.random.default_rng(0).random((3, 8, 8))
    np.testing.assert_array_equal(resized(images, 8, 8), images)


def test_resizing_is_linear_between_pixel_centres_and_repeats_the_edge() -> None:
    ramp = np.arange(8.0)[None, :, None] + 10 * np.arange(8.0)[None, None, :]
    wide = resized(ramp, 16, 8)[0]
    np.testing.assert_allclose(wide[:, 0], [0, *np.arange(0.25, 7, 0.5), 7])
    np.testing.assert_allclose(wide[3] - wide[3, 0], 10 * np.arange(8.0))


def test_a_split_is_shuffled_and_repeatable() -> None:
    labels = np.repeat(np.arange(3), 50)
    train, held_out = stratified_split(labels, 0.2, seed=1)
    assert sorted([*train, *held_out]) == list(range(150))
    assert (np.diff(train) < 0).any()
    again, _ = stratified_split(labels, 0.2, seed=1)
    np.testing.assert_array_equal(train, again)
    other, _ = stratified_split(labels, 0.2, seed=2)
    assert (train != other).any()


def test_without_scikit_learn_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingRequirementError, match="needs scikit-learn, which is not installed"):
        digits(workload(), None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"not gzip", "BadGzipFile"),
        (gzip.compress(b"1,2,3\n4,5,6\n"), r"1797 rows of 64 pixels and a label in .* but got \(2, 3\)"),
        (gzip.compress(b"one,two\n"), "ValueError"),
    ],
)
def test_a_damaged_installation_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, words: str
) -> None:
    file = tmp_path / "digits.csv.gz"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(module, "_file", lambda: file)
    with pytest.raises(DataError, match=f"{words}.*install scikit-learn again"):
        digits(workload(), None)
