"""Huge pages: the content of a heap survives, and what belongs to a file is left alone."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from harness.launchers import pages

HEAP = """
import hashlib, re
from harness.launchers import pages

def huge():
    return int(re.search(r"AnonHugePages: +(\\d+) kB", open("/proc/self/smaps_rollup").read())[1]) << 10

kept = [number.to_bytes(4, "little") * 25_000 for number in range(640)]
before = hashlib.sha256(b"".join(kept)).digest(), huge()
moved = pages.collapse()
after = hashlib.sha256(b"".join(kept)).digest(), huge()
assert before[0] == after[0]
print(moved, after[1] - before[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_heap_keeps_its_content_when_it_moves_into_huge_pages() -> None:
    done = subprocess.run([sys.executable, "-c", HEAP], capture_output=True, text=True, check=True)
    moved, more_huge = map(int, done.stdout.split())
    if not moved:
        pytest.skip("this kernel gathers no huge pages on demand (Linux 6.1 does, where it has them)")
    assert moved >= 32 << 20
    assert more_huge >= moved / 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_private_mappings_of_files_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "mapped"
    file.write_bytes(bytes(8 << 20))
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, flags=mmap.MAP_PRIVATE) as mapped:
        view = ctypes.c_char.from_buffer(mapped)
        address = ctypes.addressof(view)
        touched = [start for start, size in pages._heap() if start < address + len(mapped) and address < start + size]
        del view
    assert not touched
