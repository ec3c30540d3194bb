"""MNIST from its original files: found, verified, standardised, or refused with the way out."""

from __future__ import annotations

import gzip
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.datasets import base
from harness.datasets.mnist import files, mnist
from harness.errors import DataError, MissingRequirementError, SpecError
from harness.spec import Workload

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FIXTURES = Path(__file__).parents[3] / "fixtures" / "idx"


def workload(**settings: object) -> Workload:
    return Workload(name="w", model="mnist-cnn", dataset="mnist", **settings)  # type: ignore[arg-type]


def write(file: Path, values: NDArray[np.uint8]) -> None:
    content = struct.pack(f">I{values.ndim}I", 0x0800 + values.ndim, *values.shape) + values.tobytes()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a subset of 12 training and 12 held-out images."""
    for part in ("train", "t10k"):
        shutil.copy(FIXTURES / "images.gz", tmp_path / f"{part}-images-idx3-ubyte.gz")
        shutil.copy(FIXTURES / "labels", tmp_path / f"{part}-labels-idx1-ubyte")
    return tmp_path


def test_a_subset_is_read_and_standardised_by_its_training_images(root: Path) -> None:
    data = mnist(workload(), str(root))
    assert data.images.shape == data.held_out_images.shape == (12, 1, 28, 28)
    assert data.images.dtype == np.float32
    assert abs(data.images.mean(dtype=np.float64)) < 1e-6
    assert abs(data.images.std(dtype=np.float64) - 1) < 1e-6
    assert data.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_num_samples_limits_training_but_not_standardisation(root: Path) -> None:
    whole, few = mnist(workload(), str(root)), mnist(workload(num_samples=5), str(root))
    np.testing.assert_array_equal(few.images, whole.images[:5])
    np.testing.assert_array_equal(few.held_out_images, whole.held_out_images)
    with pytest.raises(SpecError, match="at most 12"):
        mnist(workload(num_samples=13), str(root))


@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw"])
def test_usual_folders_below_the_root_are_looked_into(root: Path, folder: str) -> None:
    (root / folder).mkdir(parents=True)
    for name in NAMES:
        (file,) = root.glob(f"{name}*")
        shutil.move(file, root / folder / file.name)
    assert len(mnist(workload(), str(root)).labels) == 12


def test_without_a_data_root_the_option_is_named() -> None:
    with pytest.raises(MissingRequirementError, match="--ls-data-root FOLDER"):
        files(None)


def test_an_absent_file_is_named_with_how_to_get_it(root: Path) -> None:
    (root / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"expected t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz in .*download="):
        mnist(workload(), str(root))


def test_a_file_of_the_original_size_with_other_content_is_refused(root: Path) -> None:
    write(root / "t10k-labels-idx1-ubyte", np.zeros(10_000, np.uint8))
    with pytest.raises(
        DataError, match=r"expected the original t10k-labels-idx1-ubyte .*SHA-256.* but .* has [0-9a-f]"
    ):
        mnist(workload(), str(root))


def test_images_and_labels_must_pair(root: Path) -> None:
    write(root / "train-labels-idx1-ubyte", np.zeros(11, np.uint8))
    with pytest.raises(DataError, match="every training image of MNIST but got 12 images and 11 labels"):
        mnist(workload(), str(root))


def test_images_of_one_colour_cannot_be_standardised(root: Path) -> None:
    write(root / "train-images-idx3-ubyte", np.full((12, 28, 28), 9, np.uint8))
    with pytest.raises(DataError, match="more than one grey level"):
        mnist(workload(), str(root))


def test_labels_and_shapes_are_held_against_the_workload(root: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    with pytest.raises(SpecError, match=r"has shape=\(1, 28, 28\) but the workload says shape=\(1, 32, 32\)"):
        base.load(workload(shape=(1, 32, 32)), cache=cache, data_root=str(root))
    write(root / "train-labels-idx1-ubyte", np.full(12, 10, np.uint8))
    with pytest.raises(DataError, match=r"expected labels in \[0, 10\) but got 10 to 10"):
        base.load(workload(), cache=cache, data_root=str(root))


def test_a_replaced_file_is_prepared_anew(root: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    before = base.load(workload(), cache=cache, data_root=str(root))
    write(root / "train-labels-idx1-ubyte", np.arange(12, dtype=np.uint8)[::-1] % 10)
    after = base.load(workload(), cache=cache, data_root=str(root))
    assert before.labels.tolist() != after.labels.tolist()


@pytest.fixture
def real_root(request: pytest.FixtureRequest) -> Path:
    option = request.config.getoption("--ls-data-root", default=None)
    if option is None:
        pytest.skip("needs the original MNIST files (--ls-data-root)")
    try:
        files(option)
    except DataError as error:
        pytest.skip(str(error))
    return Path(option)


def test_the_real_files_are_the_published_ones(real_root: Path) -> None:
    data = mnist(workload(num_samples=60_000), str(real_root))
    assert np.bincount(data.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(data.held_out_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # Pixels / 255 have the well-known mean 0.1307 and deviation 0.3081: black is standardised to -0.4242.
    assert abs(data.images[0].min() - (-0.1307 / 0.3081)) < 5e-4


@pytest.mark.parametrize("spoil", [lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b"\x1f\x8b" + b[2:]])
def test_one_changed_byte_of_the_real_files_is_seen(
    real_root: Path, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    for source in files(str(real_root)):
        (tmp_path / source.name).symlink_to(source)
    labels = next(file for file in files(str(real_root)) if file.name.startswith("t10k-labels"))
    content = labels.read_bytes()
    unpacked = gzip.decompress(content) if labels.suffix == ".gz" else content
    (tmp_path / labels.name).unlink()
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(spoil(unpacked))
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        mnist(workload(num_samples=1), str(tmp_path))
