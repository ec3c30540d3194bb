"""1,797 real handwritten digits, 8x8 pixels of 17 grey levels, read from the file that ships inside scikit-learn.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository (1998); the
file is its test set. It is read without importing scikit-learn, which would cost more than a second.
"""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.datasets.base import Data, dataset, training_limit
from harness.errors import DataError, MissingRequirementError, SpecError
from harness.spec import Workload

_SPLIT_SEED = 0  # fixed, so that runs with different seeds are judged on the same held-out digits
_HELD_OUT_SHARE = 0.2


@dataset("digits", uses=("num_samples",))
def digits(workload: Workload, _data_root: str | None) -> Data:
    """Resize the digits to the workload's height and width, split them about 80 : 20 by class, and standardise.

    Raises:
        MissingRequirementError: scikit-learn is not installed.
        DataError: its file is not where or what it was.
        SpecError: the workload asks for more than one channel or too many samples.
    """
    if workload.shape[0] != 1:
        raise SpecError(f"expected one channel, as digits are grey, but got shape={workload.shape}")
    pixels, labels = _read(_file())
    images = resized(pixels, workload.shape[1], workload.shape[2])[:, None]
    train, held_out = stratified_split(labels, _HELD_OUT_SHARE, _SPLIT_SEED)
    mean, deviation = images[train].mean(), images[train].std()
    standardised = ((images - mean) / deviation).astype(np.float32)
    train = train[: training_limit(workload, len(train))]
    return Data(
        images=standardised[train],
        labels=labels[train],
        held_out_images=standardised[held_out],
        held_out_labels=labels[held_out],
        num_classes=10,
    )


def resized(images: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Return images [n, h, w] resized bilinearly, pixel centres at half-integers, edges repeated."""
    rows, next_rows, row_weights = _taps(images.shape[1], height)
    tall = images[:, rows] * (1 - row_weights)[:, None] + images[:, next_rows] * row_weights[:, None]
    columns, next_columns, column_weights = _taps(images.shape[2], width)
    wide: NDArray[np.float64] = tall[:, :, columns] * (1 - column_weights) + tall[:, :, next_columns] * column_weights
    return wide


def stratified_split(labels: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return shuffled indices of the training and the held-out samples; of each class ``share`` is held out."""
    draw = np.random.default_rng([seed, 4])
    order = draw.permutation(len(labels))
    held_out = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        held_out[members[: round(share * len(members))]] = True
    return order[~held_out[order]], order[held_out[order]]


def _taps(size: int, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return for every wanted position its two neighbours and the weight of the second."""
    centres = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    first = np.floor(centres).astype(np.int64)
    return first, np.minimum(first + 1, size - 1), centres - first


def _file() -> Path:
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise MissingRequirementError(
            "dataset 'digits' needs scikit-learn, which is not installed; install the extra 'digits'"
        )
    return Path(found.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"


def _read(file: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return pixels [n, 8, 8] and labels [n]."""
    try:
        with gzip.open(file, "rt", encoding="ascii") as lines:
            table = np.loadtxt(lines, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(
            f"expected scikit-learn's digits in {file} but {type(error).__name__}: {error}; install scikit-learn again"
        ) from error
    if table.shape != (1797, 65):
        raise DataError(
            f"expected 1797 rows of 64 pixels and a label in {file} but got {table.shape}; install scikit-learn again"
        )
    return table[:, :64].reshape(-1, 8, 8), table[:, 64].astype(np.int64)
