"""MNIST from its four original IDX files (60,000 training and 10,000 held-out digits of 28x28 pixels).

Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE
86 (1998). The files are not part of Lockstep.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.datasets import idx
from harness.datasets.base import Data, dataset, training_limit
from harness.errors import DataError, MissingRequirementError
from harness.spec import Workload

# Unpacked size of the original in samples, and the SHA-256 of the unpacked file: a gzip may have been packed again.
_ORIGINALS = {
    "train-images-idx3-ubyte": (60_000, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": (60_000, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": (10_000, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": (10_000, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
_FOLDERS = (".", "mnist", "MNIST/raw")


def files(data_root: str | None) -> tuple[Path, ...]:
    """Return the four files, training images and labels first, plain or gzipped.

    Raises:
        MissingRequirementError: no folder was named.
        DataError: a file is not there.
    """
    if data_root is None:
        raise MissingRequirementError("dataset 'mnist' needs its files; name their folder with --ls-data-root FOLDER")
    return tuple(_find(Path(data_root), name) for name in _ORIGINALS)


@dataset("mnist", uses=("num_samples",), files=files)
def mnist(workload: Workload, data_root: str | None) -> Data:
    """Read, verify and standardise the digits; ``workload.num_samples`` takes the first so many for training.

    A file of the original number of samples must be the original, byte for byte; one of another number is taken for
    a subset and only its format is checked. Mean and deviation are those of all training pixels in the file.

    Raises:
        MissingRequirementError: no data root.
        DataError: a file is absent, truncated, of another format, or not the original.
        SpecError: the workload asks for more samples than there are.
    """
    train_images, train_labels, held_out_images, held_out_labels = (
        _read(file, name) for file, name in zip(files(data_root), _ORIGINALS, strict=True)
    )
    _require_pairs(train_images, train_labels, "training")
    _require_pairs(held_out_images, held_out_labels, "held-out")
    limit = training_limit(workload, len(train_images))
    grey_levels = _standardised_grey_levels(train_images)
    return Data(
        images=grey_levels[train_images[:limit]][:, None],
        labels=train_labels[:limit].astype(np.int64),
        held_out_images=grey_levels[held_out_images][:, None],
        held_out_labels=held_out_labels.astype(np.int64),
        num_classes=10,
    )


def _find(root: Path, name: str) -> Path:
    for folder in _FOLDERS:
        for suffix in ("", ".gz"):
            file = root / folder / f"{name}{suffix}"
            if file.is_file():
                return file
    raise DataError(
        f"expected {name} or {name}.gz in {root}, {root / 'mnist'} or {root / 'MNIST' / 'raw'} but found neither; put "
        "the four original MNIST files there (torchvision.datasets.MNIST(root, download=True) fetches them)"
    )


def _read(file: Path, name: str) -> NDArray[np.uint8]:
    values = idx.read(file, num_dimensions=3 if "images" in name else 1)
    num_samples, expected = _ORIGINALS[name]
    if len(values) != num_samples:
        return values
    header = np.array([0x0800 + values.ndim, *values.shape], ">u4").tobytes()
    found = hashlib.sha256(header + values.tobytes()).hexdigest()
    if found != expected:
        raise DataError(
            f"expected the original {name} (SHA-256 of the unpacked file {expected}) but {file} has {found}: it is "
            "damaged, or another dataset of MNIST's format; fetch it again, or declare that dataset by its own name"
        )
    return values


def _require_pairs(images: NDArray[np.uint8], labels: NDArray[np.uint8], part: str) -> None:
    if len(images) != len(labels) or not len(images):
        raise DataError(
            f"expected images and a label for every {part} image of MNIST but got {len(images)} images and "
            f"{len(labels)} labels; take both files from the same place"
        )


def _standardised_grey_levels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the standardised value of each of the 256 grey levels, from the images' histogram."""
    levels = np.arange(256) / 255
    weights = np.bincount(images.ravel(), minlength=256) / max(images.size, 1)
    mean = float((levels * weights).sum())
    deviation = float((((levels - mean) ** 2) * weights).sum() ** 0.5)
    if deviation == 0:
        raise DataError("expected MNIST images with more than one grey level but every training pixel is the same")
    return ((levels - mean) / deviation).astype(np.float32)
