"""What ranks printed, short enough for a record."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from harness.record import Log
from harness.spec import Job

# Bytes kept of a rank's output, and ranks told of: of a sound case and, where they are read closely, of a failed one.
SOUND, FAILED = 4_000, 16_000
MOST_RANKS = 16


def file_of(job: Job) -> Path:
    """Return where a rank's output goes."""
    return Path(job.directory) / f"rank{job.rank}.log"


def of(jobs: Sequence[Job], limit: int = SOUND) -> tuple[Log, ...]:
    """Return what the ranks of a case printed, those with the lowest numbers; nothing of ranks that never started."""
    files = {job.rank: file_of(job) for job in jobs[:MOST_RANKS]}
    return tuple(read(f"rank {rank}", file, limit) for rank, file in files.items() if file.exists())


def read(who: str, file: Path, limit: int) -> Log:
    """Return the output in ``file``, the middle left out where it has more than ``limit`` bytes."""
    shown, num_bytes = shortened(file, limit // 3, limit - limit // 3)
    return Log(who=who, text=shown, num_bytes=num_bytes)


def shortened(file: Path, head: int, tail: int) -> tuple[str, int]:
    """Return the first ``head`` and the last ``tail`` bytes of a file, as text, and how many it has."""
    with file.open("rb") as output:
        size = output.seek(0, os.SEEK_END)
        output.seek(0)
        if size <= head + tail:
            return text(output.read()).strip(), size
        first = output.read(head)
        output.seek(size - tail)
        cut = size - head - tail
        return f"{text(first)}\n[... {cut} bytes ...]\n{text(output.read())}".strip(), size


def text(output: bytes) -> str:
    """Return output of a rank, which may be anything, as text."""
    return output.decode(errors="replace")
