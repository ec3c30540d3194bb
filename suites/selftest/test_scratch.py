"""The scratch folder: made where there is room, removed with its session, swept up after one that was killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

from harness import scratch
from harness.errors import RankError, StoreError

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(scratch.VARIABLE, str(tmp_path))
    return tmp_path


def test_a_folder_is_made_in_the_named_place_and_removed(place: Path) -> None:
    folder = scratch.create()
    assert folder.parent == place
    (folder / "array.npy").write_bytes(b"x")
    scratch.remove(folder)
    assert list(place.iterdir()) == []
    scratch.remove(folder)  # which is no mistake


def test_the_folder_of_a_living_session_is_left_alone(place: Path) -> None:
    first, second = scratch.create(), scratch.create()
    assert first != second
    assert first.exists()
    for folder in (first, second):
        scratch.remove(folder)


def test_the_folder_of_a_killed_session_is_swept_away(place: Path) -> None:
    program = "from harness import scratch; import os, signal; scratch.create(); os.kill(os.getpid(), signal.SIGKILL)"
    root = Path(scratch.__file__).parents[1]
    killed = subprocess.run([sys.executable, "-c", program], check=False, env=os.environ | {"PYTHONPATH": str(root)})
    assert killed.returncode == -signal.SIGKILL
    (left,) = place.iterdir()
    folder = scratch.create()
    assert not left.exists()
    scratch.remove(folder)


def test_folders_of_others_are_left_alone(place: Path) -> None:
    other = place / f"lockstep-{os.getuid() + 1}-abcdefgh"
    other.mkdir()
    (place / "lockstep-reports-abc").mkdir()
    scratch.remove(scratch.create())
    assert sorted(path.name for path in place.iterdir()) == [other.name, "lockstep-reports-abc"]


def test_a_folder_that_is_swept_away_before_it_is_locked_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = scratch._lock
    swept: list[Path] = []

    def sweep_first(folder: Path) -> int | None:
        if not swept:
            swept.append(folder)
            shutil.rmtree(folder)
        return lock(folder)

    monkeypatch.setattr(scratch, "_lock", sweep_first)
    folder = scratch.create()
    assert [folder] == list(place.iterdir())
    assert swept != [folder]
    scratch.remove(folder)


def test_a_place_that_cannot_be_written_is_told_with_the_way_out(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(scratch.VARIABLE, str(place / "absent"))
    with pytest.raises(StoreError, match=r"expected a folder for scratch files in .*absent but .*LOCKSTEP_SCRATCH"):
        scratch.create()


@pytest.mark.parametrize(("free", "used"), [(scratch.ENOUGH_BYTES, "shared memory"), (64 << 20, "disk")])
def test_shared_memory_is_used_where_it_has_room(
    place: Path, monkeypatch: pytest.MonkeyPatch, free: int, used: str
) -> None:
    # As in a container, which gets 64 MB of shared memory unless it asks for more.
    shared, disk = place / "shm", place / "tmp"
    shared.mkdir()
    disk.mkdir()
    monkeypatch.delenv(scratch.VARIABLE)
    monkeypatch.setattr(scratch, "SHARED_MEMORY", shared)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(disk))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(free, 0, free))
    folder = scratch.create()
    assert folder.parent == {"shared memory": shared, "disk": disk}[used]
    scratch.remove(folder)


def test_without_shared_memory_the_disk_is_used(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(scratch.VARIABLE)
    monkeypatch.setattr(scratch, "SHARED_MEMORY", place / "absent")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(place))
    folder = scratch.create()
    assert folder.parent == place
    scratch.remove(folder)


WAY_OUT = (
    r"expected to write scratch files in .* MiB free\) but .*\nfree room there, or name another .*LOCKSTEP_SCRATCH"
)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RankError("rank 1 raised OSError: [Errno 28] No space left on device"),
        RankError("rank 1 raised OSError: 1024 requested and 992 written"),
    ],
)
def test_an_error_for_want_of_room_is_told_with_the_way_out(place: Path, error: Exception) -> None:
    with pytest.raises(StoreError, match=WAY_OUT) as caught, scratch.told(place):
        raise error
    assert str(error) in str(caught.value)


def test_a_rank_that_dies_beside_a_full_folder_is_told_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1 << 26, 1 << 26, 4096))
    with pytest.raises(StoreError, match=WAY_OUT), scratch.told(place):
        raise RankError("rank 1 was killed by SIGBUS")


@pytest.mark.parametrize("error", [OSError(2, "No such file"), RankError("rank 1 hung"), ValueError("28")])
def test_any_other_error_is_what_it_is(place: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, scratch.told(place):
        raise error
    assert caught.value is error
