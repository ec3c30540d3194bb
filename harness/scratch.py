"""A session's scratch folder: in shared memory where there is room, gone when the session is."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from harness.errors import StoreError

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the kernel's tmpfs, not a guessable file
VARIABLE = "LOCKSTEP_SCRATCH"
# Room for the traces of a medium model; below it the disk is the better place.
ENOUGH_BYTES = 1 << 30
_NAME = re.compile(r"lockstep-(\d+)-(\d+)-.*")


def create() -> Path:
    """Make the scratch folder of this process and remove those of processes that no longer live.

    ``$LOCKSTEP_SCRATCH`` names another place for it.

    Raises:
        StoreError: there is nowhere to write.
    """
    place = _choose()
    _sweep(place)
    try:
        return Path(tempfile.mkdtemp(prefix=f"lockstep-{os.getuid()}-{os.getpid()}-", dir=place))
    except OSError as error:
        raise StoreError(
            f"expected a folder for scratch files in {place} but {error}; name one in ${VARIABLE}"
        ) from error


def remove(folder: Path) -> None:
    """Delete a scratch folder; one that is gone already is no mistake."""
    shutil.rmtree(folder, ignore_errors=True)


def _choose() -> Path:
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    usable = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK)
    roomy = usable and shutil.disk_usage(SHARED_MEMORY).free >= ENOUGH_BYTES
    return SHARED_MEMORY if roomy else Path(tempfile.gettempdir())


def _sweep(place: Path) -> None:
    """Remove what sessions that were killed left behind."""
    for folder in place.glob(f"lockstep-{os.getuid()}-*"):
        match = _NAME.fullmatch(folder.name)
        if match and not Path(f"/proc/{match.group(2)}").exists():
            remove(folder)
