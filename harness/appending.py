"""Files that grow line by line and hold what was finished when their writer is killed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def open_to_append(path: Path) -> int:
    """Return a descriptor of ``path``, which is made when it is absent; it is not handed down to other processes."""
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def append(fd: int, line: bytes) -> None:
    """Write a line without its end and wait until it is on disk; one that does not fit leaves nothing behind.

    Raises:
        OSError: it cannot be written.
    """
    line += b"\n"
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":
        line = b"\n" + line  # an earlier writer was killed in the middle of its line
    try:
        _write_all(fd, line)
        os.fsync(fd)
    except OSError:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            os.ftruncate(fd, size)
        raise


def _write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]
