"""Declaring a dataset, preparing it once and mapping it into every rank's memory."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError, SpecError
from harness.registry import Registry
from harness.spec import Workload

Images: TypeAlias = NDArray[np.float32]
Labels: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """Training and held-out samples: images float32 [n, c, h, w], standardised by the training mean and deviation.

    Labels are int64 [n] in [0, num_classes). Arrays are read-only where they are mapped from the cache.
    """

    images: Images
    labels: Labels
    held_out_images: Images
    held_out_labels: Labels
    num_classes: int


Prepare: TypeAlias = Callable[[Workload, str | None], Data]
P = TypeVar("P", bound=Prepare)
Setting: TypeAlias = Literal["seed", "num_samples", "data_root"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Inputs:
    """What a prepared dataset depends on beside its own code, the workload's shape and its number of classes."""

    uses: tuple[Setting, ...] = ("seed", "num_samples", "data_root")
    files: Callable[[str | None], Iterable[Path]] = lambda _data_root: ()


registry: Registry[Prepare] = Registry("dataset", "harness.datasets")
_inputs: dict[Prepare, _Inputs] = {}
_ARRAYS = ("images", "labels", "held_out_images", "held_out_labels")


def dataset(
    name: str,
    *,
    uses: tuple[Setting, ...] = ("seed", "num_samples", "data_root"),
    files: Callable[[str | None], Iterable[Path]] = lambda _data_root: (),
) -> Callable[[P], P]:
    """Register the decorated ``prepare(workload, data_root) -> Data`` as dataset ``name``.

    Workloads that agree in shape, number of classes and the settings in ``uses`` share one prepared copy;
    ``files(data_root)`` are the files it is read from: when one of them changes, it is prepared anew.
    """

    def register(prepare: P) -> P:
        registry.register(name, prepare)
        _inputs[prepare] = _Inputs(uses=uses, files=files)
        return prepare

    return register


def load(workload: Workload, *, cache: str, data_root: str | None) -> Data:
    """Return the workload's data, prepared once per ``cache`` folder and then memory-mapped, read-only.

    Processes may race: each prepares beside and moves, and the first to move wins.

    Raises:
        UnknownNameError: no such dataset.
        SpecError: the workload's shape, classes or number of samples are not the dataset's.
        DataError: a file is absent or damaged, or the cache cannot be written.
        MissingRequirementError: the dataset needs a package, or a folder nobody named.
    """
    prepare = registry.get(workload.dataset)
    folder = Path(cache) / _key(workload, prepare, data_root)
    if not folder.is_dir():
        data = prepare(workload, data_root)
        _require_fit(workload, data)
        _publish(data, folder)
    return _mapped(folder, workload.num_classes)


def training_limit(workload: Workload, available: int) -> int:
    """Return how many of ``available`` training samples the workload wants.

    Raises:
        SpecError: it wants more than there are.
    """
    wanted = available if workload.num_samples is None else workload.num_samples
    if wanted > available:
        raise SpecError(
            f"expected num_samples of at most {available}, the training samples of dataset {workload.dataset!r}, "
            f"but got num_samples={wanted} in workload {workload.name!r}; lower it or leave it out"
        )
    return wanted


def _key(workload: Workload, prepare: Prepare, data_root: str | None) -> str:
    inputs = _inputs.get(prepare, _Inputs())
    values = {
        "seed": workload.seed,
        "num_samples": workload.num_samples,
        "data_root": data_root and str(Path(data_root).resolve()),
    }
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in inputs.files(data_root)]
    source = Path(prepare.__code__.co_filename)
    code = source.read_bytes() if source.is_file() else b""
    content = (
        str(source),  # a module loaded from a file has another name in every process
        prepare.__qualname__,
        workload.shape,
        workload.num_classes,
        [(name, values[name]) for name in inputs.uses],
        stats,
        hashlib.sha256(code).hexdigest(),
    )
    digest = hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:16]
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', workload.dataset)}-{digest}"


def _require_fit(workload: Workload, data: Data) -> None:
    """Raise unless ``data`` keeps the promises of Data and is what the workload describes."""
    for part, images, labels in (
        ("training", data.images, data.labels),
        ("held-out", data.held_out_images, data.held_out_labels),
    ):
        said = f"dataset {workload.dataset!r} ({part} samples)"
        if images.dtype != np.float32 or labels.dtype != np.int64:
            raise DataError(
                f"{said}: expected float32 images and int64 labels but got {images.dtype} and {labels.dtype}; "
                "convert them with astype()"
            )
        if images.ndim != 4 or labels.shape != images.shape[:1] or not len(labels):
            raise DataError(
                f"{said}: expected images [n, c, h, w] and labels [n] with n >= 1 but got {images.shape} and "
                f"{labels.shape}"
            )
        if not np.isfinite(images).all():
            raise DataError(f"{said}: expected finite pixels but got NaN or infinity; is a deviation of zero divided?")
        _require_spec(said, "shape", images.shape[1:], workload.shape)
        _require_spec(said, "num_classes", data.num_classes, workload.num_classes)
        if labels.min() < 0 or labels.max() >= data.num_classes:
            raise DataError(
                f"{said}: expected labels in [0, {data.num_classes}) but got {labels.min()} to {labels.max()}"
            )


def _require_spec(said: str, name: str, offered: object, wanted: object) -> None:
    if offered != wanted:
        raise SpecError(f"{said} has {name}={offered} but the workload says {name}={wanted}; set the workload's")


def _publish(data: Data, folder: Path) -> None:
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        beside.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            np.save(beside / f"{name}.npy", getattr(data, name), allow_pickle=False)
        beside.rename(folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if not folder.is_dir():  # else another process moved its copy there first, and both are alike
            raise DataError(
                f"expected to write the prepared dataset to {folder} but {error}; free space, or name another folder"
            ) from error


def _mapped(folder: Path, num_classes: int) -> Data:
    try:
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray)
            for name in _ARRAYS
        }
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"expected a prepared dataset in {folder} but {error}; delete that folder and run again"
        ) from error
    return Data(**arrays, num_classes=num_classes)
