"""A lease on the machine: tests share it, a measurement has it alone among Lockstep's own processes.

Advisory locks of the kernel on two files: they end with the process that holds them, however it dies.

    shared      pass the gate, lock the machine with others
    exclusive   close the gate (nobody new gets in), wait for the machine, hold both
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import MissingRequirementError, UsageError

Tell = Callable[[str], None]

_held: set[Path] = set()


def machine() -> Path:
    """Return the file that stands for this machine among one user's processes."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"lockstep-{user}.lease"


@contextmanager
def shared(path: Path, *, on_wait: Tell | None = None) -> Iterator[None]:
    """Hold the lease together with others; waits while a measurement has it or is waiting for it.

    ``on_wait`` is called once with a sentence if there is anything to wait for. A process holds one lease at a time.

    Raises:
        UsageError: the lease file cannot be opened.
        MissingRequirementError: the system has no such locks (Windows).
    """
    with _opened(path) as (gate, lease):
        _lock(gate, exclusive=True, on_wait=on_wait, lease=lease)
        _lock(lease, exclusive=False, on_wait=on_wait, lease=lease)
        _unlock(gate)
        yield


@contextmanager
def exclusive(path: Path, *, label: str = "a measurement", on_wait: Tell | None = None) -> Iterator[None]:
    """Hold the lease alone; waits for all who share it and lets nobody new in. Errors as for ``shared``.

    ``label`` says to those who wait what is measured.
    """
    with _opened(path) as (gate, lease):
        _lock(gate, exclusive=True, on_wait=on_wait, lease=lease)
        _lock(lease, exclusive=True, on_wait=on_wait, lease=lease)
        os.ftruncate(lease, 0)
        os.pwrite(lease, f"{label} (process {os.getpid()})".encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(lease, 0)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, int]]:
    assert path not in _held, f"this process already holds {path}: a second lease would wait for the first for ever"
    files: list[int] = []
    try:
        try:
            # Nobody else's file, nor a link to one, is taken for the lease; children do not inherit it.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
            files.extend(os.open(file, flags, 0o600) for file in (path.with_suffix(".gate"), path))
        except OSError as error:
            raise UsageError(
                f"expected to open the lease {path} but {error}; set TMPDIR to a folder of yours"
            ) from error
        _held.add(path)
        yield files[0], files[1]
    finally:
        _held.discard(path)
        for file in files:
            os.close(file)


def _lock(file: int, *, exclusive: bool, on_wait: Tell | None, lease: int) -> None:
    try:
        import fcntl
    except ModuleNotFoundError as error:
        raise MissingRequirementError(
            "timing needs file locks, which this system lacks; run on Linux or macOS"
        ) from error
    mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        if on_wait is not None:
            holder = os.pread(lease, 1_000, 0).decode(errors="replace")
            on_wait(f"waiting for the machine: {holder or 'other Lockstep tests'} must end first")
        fcntl.flock(file, mode)


def _unlock(file: int) -> None:
    import fcntl

    fcntl.flock(file, fcntl.LOCK_UN)
