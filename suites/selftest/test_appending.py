"""Lines that are on disk when they are written, after whatever an earlier writer has left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import appending


def test_a_line_begins_where_the_last_one_ended(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"half a li")
    fd = appending.open_to_append(path)
    appending.append(fd, b"one")
    appending.append(fd, b"two")
    os.close(fd)
    assert path.read_bytes() == b"half a li\none\ntwo\n"


def test_a_line_that_cannot_be_written_whole_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = appending.open_to_append(tmp_path / "lines")
    appending.append(fd, b"one")
    write = os.write

    def full(to: int, content: bytes) -> int:
        if not content.startswith(b"tw"):
            raise OSError(28, "No space left on device")
        return write(to, content[:2])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        appending.append(fd, b"two")
    os.close(fd)
    assert (tmp_path / "lines").read_bytes() == b"one\n"
