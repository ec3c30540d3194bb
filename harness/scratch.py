"""A session's scratch folder: in shared memory where there is room, gone when the session is."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import RankError, StoreError

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the kernel's tmpfs, not a guessable file
VARIABLE = "LOCKSTEP_SCRATCH"
# The everyday conformance suite takes 3.1 GiB at most; with less the disk is the better place.
ENOUGH_BYTES = 4 << 30
# With less than the traces of a case of a million parameters take, references are not kept for later cases.
LITTLE_BYTES = 1 << 30
# Less than this is no room at all: a rank that could not write is told so, whatever it says itself.
NOTHING_BYTES = 1 << 20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# The last form is numpy's, which does not pass the number on.
_SAYS_NO_ROOM = re.compile(rf"\[Errno ({'|'.join(map(str, _NO_ROOM))})\]|\d+ requested and \d+ written")
LOCK = ".lock"
# Folders of this process: a lock on each, which the kernel releases however the process ends.
_locks: dict[Path, int] = {}


def create() -> Path:
    """Make a scratch folder and remove those of sessions that were killed.

    ``$LOCKSTEP_SCRATCH`` names another place for it.

    Raises:
        StoreError: there is nowhere to write.
    """
    place = _choose()
    try:
        _sweep(place)
        # Another session may sweep a new folder away just before it is locked.
        while (lock := _lock(folder := Path(tempfile.mkdtemp(prefix=_prefix(), dir=place)))) is None:
            continue
    except OSError as error:
        raise StoreError(
            f"expected a folder for scratch files in {place} but {error}; name one in ${VARIABLE}"
        ) from error
    _locks[folder] = lock
    return folder


def remove(folder: Path) -> None:
    """Delete a scratch folder; one that is gone already is no mistake."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder in _locks:
        os.close(_locks.pop(folder))


def scarce(folder: Path) -> bool:
    """Whether there is so little room that nothing should be kept that is not needed now."""
    return shutil.disk_usage(folder).free < LITTLE_BYTES


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Say of an error in the block that it comes from a full scratch folder, if it does, and the way out.

    Raises:
        StoreError: nothing more fits into ``folder``.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise StoreError(_hint(folder, str(error))) from error
    except RankError as error:
        if shutil.disk_usage(folder).free >= NOTHING_BYTES and not _SAYS_NO_ROOM.search(str(error)):
            raise
        raise StoreError(_hint(folder, str(error))) from error


def _hint(folder: Path, error: str) -> str:
    free = shutil.disk_usage(folder).free if folder.exists() else 0
    return (
        f"expected to write scratch files in {folder} ({free / (1 << 20):.1f} MiB free) but {error}\n"
        f"free room there, or name another folder in ${VARIABLE}"
    )


def _prefix() -> str:
    return f"lockstep-{os.getuid()}-"


def _choose() -> Path:
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    usable = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK)
    roomy = usable and shutil.disk_usage(SHARED_MEMORY).free >= ENOUGH_BYTES
    return SHARED_MEMORY if roomy else Path(tempfile.gettempdir())


def _sweep(place: Path) -> None:
    """Remove what sessions left that nobody holds any more.

    Process ids would not tell: containers that share ``/dev/shm`` number their processes each on its own.
    """
    for folder in place.glob(f"{_prefix()}*"):
        with suppress(OSError):  # not ours to remove
            lock = _lock(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path) -> int | None:
    """Return a descriptor that holds ``folder`` for this process alone, or None where another one does or it is gone.

    A file is locked, as NFS locks no folders.
    """
    import fcntl  # absent on Windows, where no ranks run either

    file = folder / LOCK
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if not file.exists():
        os.close(descriptor)
        return None
    return descriptor
