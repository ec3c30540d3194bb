"""A lease on the machine: tests share it, a measurement has it alone among Lockstep's own processes.

Advisory locks of the kernel on two files: they end with the process that holds them, however it dies.

    shared      pass the gate, lock the machine with others
    exclusive   close the gate (nobody new gets in), wait for the machine, hold both
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import MissingRequirementError, UsageError

Tell = Callable[[str], None]

# Tells the processes a holder starts (pytest inside a test) that they belong to it.
HOLDER = "LOCKSTEP_LEASE_HOLDER"


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """The open descriptors of one lease."""

    gate: int
    lease: int


def machine() -> Path:
    """Return the file that stands for this machine among one user's processes."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"lockstep-{user}.lease"


@contextmanager
def shared(path: Path | None = None, *, on_wait: Tell | None = None) -> Iterator[None]:
    """Hold the lease ``path`` (default: the machine's) with others; waits while a measurement has it or waits for it.

    ``on_wait`` is called once with a sentence if there is anything to wait for. A process that was started by a holder
    of the lease, or asks for it twice, belongs to that holder and does not wait.

    Raises:
        UsageError: the lease file cannot be opened.
        MissingRequirementError: the system has no such locks (Windows).
    """
    with _opened(path or machine()) as files:
        if files is not None:
            _acquire(files, exclusive=False, on_wait=on_wait)
            _label(files, "")
            _flock(files.gate, unlock=True)
        yield


@contextmanager
def exclusive(path: Path | None = None, *, label: str = "a measurement", on_wait: Tell | None = None) -> Iterator[None]:
    """Hold the lease alone; waits for all who share it and lets nobody new in. The rest as for ``shared``.

    ``label`` says to those who wait what is measured.
    """
    with _opened(path or machine()) as files:
        if files is not None:
            _acquire(files, exclusive=True, on_wait=on_wait)
            _label(files, f"{label} (process {os.getpid()})")
        yield


@contextmanager
def unless_measured(path: Path | None = None, *, label: str) -> Iterator[bool]:
    """Hold the lease with others, or yield False at once where a measurement has it or waits for it.

    ``label`` says to a measurement that must wait for what. The rest as for ``shared``.
    """
    with _opened(path or machine()) as files:
        if files is None:
            yield True
            return
        free = _flock(files.gate, wait=False) and _flock(files.lease, exclusive=False, wait=False)
        if free:
            _label(files, label)
            _flock(files.gate, unlock=True)
        yield free


@contextmanager
def _opened(path: Path) -> Iterator[Files | None]:
    """Open both files, and let children know; None where this process belongs to a holder already."""
    if os.environ.get(HOLDER) == str(path):
        yield None
        return
    with ExitStack() as opened:
        try:
            gate, lease = (_open(file, opened) for file in (path.with_suffix(".gate"), path))
        except OSError as error:
            raise UsageError(f"cannot open the lease {path}: {error}; set TMPDIR to a folder of your own") from error
        before = os.environ.get(HOLDER)
        os.environ[HOLDER] = str(path)
        try:
            yield Files(gate=gate, lease=lease)
        finally:
            os.environ.pop(HOLDER)
            os.environ.update({HOLDER: before} if before is not None else {})


def _open(path: Path, opened: ExitStack) -> int:
    # Nobody else's link is followed, and children do not inherit the lock.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    file = os.open(path, flags, 0o600)
    opened.callback(os.close, file)
    return file


def _acquire(files: Files, *, exclusive: bool, on_wait: Tell | None) -> None:
    """Close the gate, then lock the machine; say once if that has to wait."""
    told = False
    for file, alone in ((files.gate, True), (files.lease, exclusive)):
        if _flock(file, exclusive=alone, wait=False):
            continue
        if on_wait is not None and not told:
            holder = os.pread(files.lease, 1_000, 0).decode(errors="replace")
            on_wait(f"waiting for the machine: {holder or 'other Lockstep tests'} must end first")
            told = True
        _flock(file, exclusive=alone)


def _label(files: Files, text: str) -> None:
    os.ftruncate(files.lease, 0)
    os.pwrite(files.lease, text.encode(), 0)


def _flock(file: int, *, exclusive: bool = True, wait: bool = True, unlock: bool = False) -> bool:
    """Lock or unlock ``file``; False if it is taken and ``wait`` is False."""
    try:
        import fcntl
    except ModuleNotFoundError as error:
        raise MissingRequirementError("sharing the machine needs file locks: run on Linux or macOS") from error
    mode = fcntl.LOCK_UN if unlock else fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(file, mode if wait else mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
