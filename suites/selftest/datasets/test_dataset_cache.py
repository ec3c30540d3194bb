"""A dataset is prepared once, checked, and mapped; whatever goes wrong is told with the way out."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.datasets import base
from harness.datasets.base import Data, load
from harness.errors import DataError, SpecError, UnknownNameError
from harness.spec import Workload

GOOD = Data(
    images=np.ones((4, 1, 2, 2), np.float32),
    labels=np.array([0, 1, 0, 1]),
    held_out_images=np.ones((2, 1, 2, 2), np.float32),
    held_out_labels=np.array([1, 0]),
    num_classes=2,
)
offered = GOOD
prepared: list[Workload] = []


def prepare(workload: Workload, _data_root: str | None) -> Data:
    prepared.append(workload)
    return offered


def prepare_late(workload: Workload, data_root: str | None) -> Data:
    """Be overtaken by another process that moves its copy into the cache first."""
    if not prepared:
        prepared.append(workload)
        assert data_root is not None
        load(workload, cache=data_root, data_root=data_root)
    return GOOD


def workload(**settings: object) -> Workload:
    fields = {"name": "w", "model": "mlp", "dataset": f"{__name__}:prepare", "shape": (1, 2, 2), "num_classes": 2}
    return Workload(**{**fields, **settings})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    prepared.clear()


def offer(monkeypatch: pytest.MonkeyPatch, **parts: object) -> None:
    monkeypatch.setattr(sys.modules[__name__], "offered", replace(GOOD, **parts))  # type: ignore[arg-type]


def test_a_dataset_is_prepared_once_and_then_mapped_read_only(tmp_path: Path) -> None:
    for _ in range(3):
        data = load(workload(), cache=str(tmp_path), data_root=None)
    assert len(prepared) == 1
    assert data.num_classes == 2
    for name in ("images", "labels", "held_out_images", "held_out_labels"):
        np.testing.assert_array_equal(getattr(data, name), getattr(GOOD, name))
        assert type(getattr(data, name)) is np.ndarray
        assert not getattr(data, name).flags.writeable


def test_what_does_not_concern_the_data_shares_the_prepared_copy(tmp_path: Path) -> None:
    load(workload(), cache=str(tmp_path), data_root=None)
    load(workload(name="other", global_batch=8, model="simple-cnn", epochs=9), cache=str(tmp_path), data_root=None)
    assert len(prepared) == 1


@pytest.mark.parametrize("change", [{"seed": 1}, {"num_samples": 3}])
def test_what_concerns_the_data_prepares_it_anew(tmp_path: Path, change: dict[str, int]) -> None:
    load(workload(), cache=str(tmp_path), data_root=None)
    load(workload(**change), cache=str(tmp_path), data_root=None)
    assert len(prepared) == 2
    load(workload(), cache=str(tmp_path), data_root="elsewhere")
    assert len(prepared) == 3


def test_a_changed_file_of_the_dataset_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.write_text("a")
    monkeypatch.setitem(base._inputs, prepare, base._Inputs(files=lambda _root: (source,)))
    load(workload(), cache=str(tmp_path), data_root=None)
    load(workload(), cache=str(tmp_path), data_root=None)
    assert len(prepared) == 1
    source.write_text("longer")
    load(workload(), cache=str(tmp_path), data_root=None)
    assert len(prepared) == 2


def test_whoever_comes_second_in_a_race_takes_the_copy_that_is_there(tmp_path: Path) -> None:
    late = workload(dataset=f"{__name__}:prepare_late")
    data = load(late, cache=str(tmp_path), data_root=str(tmp_path))
    np.testing.assert_array_equal(data.images, GOOD.images)
    assert len(list(tmp_path.iterdir())) == 1  # nothing half-written is left beside it


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    with pytest.raises(DataError, match=r"expected to write the prepared dataset to .*; free space, or name another"):
        load(workload(), cache=str(occupied), data_root=None)


def test_a_damaged_copy_is_told_with_the_folder_to_delete(tmp_path: Path) -> None:
    load(workload(), cache=str(tmp_path), data_root=None)
    (file,) = tmp_path.glob("*/images.npy")
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(DataError, match="delete that folder and run again"):
        load(workload(), cache=str(tmp_path), data_root=None)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"images": GOOD.images.astype(np.float64)}, "training.*expected float32 images .* but got float64"),
        ({"held_out_labels": np.zeros(2, np.int32)}, "held-out.*int64 labels but got float32 and int32"),
        ({"labels": np.zeros(3, np.int64)}, r"labels \[n\] with n >= 1 but got \(4, 1, 2, 2\) and \(3,\)"),
        ({"labels": np.array([0, 1, 2, 0])}, r"expected labels in \[0, 2\) but got 0 to 2"),
        ({"labels": np.array([0, 1, -1, 0])}, r"expected labels in \[0, 2\) but got -1 to 1"),
        ({"images": np.full((4, 1, 2, 2), np.nan, np.float32)}, "expected finite pixels"),
        ({"held_out_images": np.ones((0, 1, 2, 2), np.float32), "held_out_labels": np.zeros(0, np.int64)}, "n >= 1"),
    ],
)
def test_a_dataset_that_breaks_its_promise_is_named_with_what_it_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: dict[str, object], words: str
) -> None:
    offer(monkeypatch, **parts)
    with pytest.raises(DataError, match=words):
        load(workload(), cache=str(tmp_path), data_root=None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", [{"shape": (3, 2, 2)}, {"num_classes": 3}])
def test_a_workload_that_describes_other_images_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    load(workload(), cache=str(tmp_path), data_root=None)
    with pytest.raises(SpecError, match="but the workload says"):
        load(workload(**change), cache=str(tmp_path), data_root=None)


def test_an_unknown_dataset_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown dataset 'digit'; did you mean 'digits'"):
        load(workload(dataset="digit"), cache="", data_root=None)


def test_the_built_in_datasets_are_known_with_their_addresses() -> None:
    assert {"digits", "mnist", "synthetic"} <= set(base.registry.known())
    assert base.registry.address("digits") == "harness.datasets.digits:digits"


def test_preparing_digits_imports_no_framework(tmp_path: Path) -> None:
    code = f"""
import sys
from harness.datasets.base import load
from harness.spec import Workload
load(Workload(name="w", model="mlp", dataset="digits"), cache={str(tmp_path)!r}, data_root=None)
print([name for name in ("sklearn", "scipy", "torch", "tensorflow", "pandas") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=None)
    assert done.stdout.strip() == "[]"
