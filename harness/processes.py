"""Who writes a run: a process under a name that outlives it, so that a killed run is told from one that goes on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import psutil

_PROC = Path("/proc")


def name(pid: int | None = None) -> str:
    """Return the name of a process of this machine (default: this one): ``host/pid namespace/pid/start``.

    The number of a process is given away again, and another container has its own numbers: hence its start, in clock
    ticks since the machine was booted, and the namespace. Both are empty where there is no /proc.
    """
    number = os.getpid() if pid is None else pid
    return f"{_place()}/{number}/{_start(number) or ''}"


def lives(process: str) -> bool | None:
    """Return whether the process of that name still runs; None where that cannot be seen from here."""
    found = re.fullmatch(r"(?P<place>.*)/(?P<pid>\d+)/(?P<start>\d*)", process)
    if found is None or found["place"] != _place():
        return None
    pid = int(found["pid"])
    return _start(pid) == found["start"] if found["start"] else psutil.pid_exists(pid)


def _place() -> str:
    """Return where the numbers of processes mean something."""
    try:
        namespace = str((_PROC / "self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{platform.node()}/{namespace}"


def _start(pid: int) -> str | None:
    """Return when a process started, or None where it is gone or only waits to be taken note of."""
    try:
        # What follows the command's name, which may hold anything.
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else fields[19]
