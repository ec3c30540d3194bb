"""What a process and its helpers have used, read from outside through the kernel's own counters."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def cpu_s(pid: int, helpers: Sequence[int]) -> float:
    """Return the CPU seconds of a living process and its helpers, those that have ended and were waited for included.

    Living ones to the nanosecond; the kernel tells of ended ones in hundredths of a second.
    """
    return sum(map(_cpu_s, (pid, *helpers)))


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process, its threads and its ended children; 0 when it is gone: its parent tells."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    try:
        # The kernel's number for the CPU clock of another process, as clock_getcpuclockid(3) makes it.
        own = time.clock_gettime((~pid << 3) | 2)
    except OSError:  # a kernel without such clocks, or gone just now
        own = times.user + times.system
    return float(own + times.children_user + times.children_system)


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, shared pages included, or 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def peak_bytes(pid: int) -> int:
    """Return the largest resident memory a process has ever had, or 0 when it is gone."""
    return _kib(Path(f"/proc/{pid}/status"), "VmHWM:")


def private_bytes(pid: int) -> int:
    """Return the memory that a process shares with no other, or 0 when it is gone: what a forked helper adds."""
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    return _kib(rollup, "Private_Clean:", "Private_Dirty:")


def _kib(file: Path, *names: str) -> int:
    """Return the sum in bytes of the lines of a kernel file that begin with ``names``."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(names))
