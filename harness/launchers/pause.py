"""Stopping processes for a while, so that they take nothing from what is timed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

# Stopping takes as long as it takes the kernel to look at every thread; a process in a device call may hold out longer.
STOP_S = 1.0
AT_REST = frozenset("TtZX")


def states(pid: int) -> set[str]:
    """Return the one-letter states of all threads of a process, empty when it is gone; T is stopped, Z dead."""
    found = set()
    # The process, or one of its threads, may end while it is read.
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                text = (task / "stat").read_text(errors="replace")
                found.add(text[text.rindex(")") + 2])
    return found


def stop(pids: Iterable[int]) -> None:
    """Stop processes and wait until no thread of theirs runs."""
    stopping = [pid for pid in pids if _send(pid, signal.SIGSTOP)]
    deadline = time.monotonic() + STOP_S
    while stopping and time.monotonic() < deadline:
        stopping = [pid for pid in stopping if states(pid) - AT_REST]
        # They need the core that this process is on.
        os.sched_yield()


def go_on(pids: Iterable[int]) -> None:
    """Let stopped processes go on; one that was killed meanwhile is no mistake."""
    for pid in pids:
        _send(pid, signal.SIGCONT)


def _send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
