"""The guardian: a process between pytest and a zygote that leaves nothing alive when either of them ends.

    pytest --life pipe--> guardian (child subreaper) --> zygote --> ranks --> DataLoader workers, daemons, ...

Whatever loses its parent below the guardian becomes the guardian's own child, daemons that forked twice included, so
it can find and end all of it. It ends itself, and everything below, as soon as pytest is gone (seen by a pidfd, which
no forked copy of a pipe can keep open), closes its end of the life pipe, or the zygote dies.

This file runs alone (``python -I -S guardian.py``), so that a guardian starts in 10 ms and takes 10 MB: standard
library only. It also holds the few system calls that Python does not wrap, for those who know the guardian.
"""

# ruff: noqa: PTH123, PTH208 - pathlib would double the guardian's start-up time.

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

# <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
# Numbers of system calls that are the same on every architecture (include/uapi/asm-generic/unistd.h).
PIDFD_SEND_SIGNAL = 424
PIDFD_OPEN = 434


def prctl(option: int, value: int | bytes) -> None:
    """Set an attribute of this process; the manual page of the same name has them all."""
    libc = ctypes.CDLL(None, use_errno=True)
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    if libc.prctl(ctypes.c_int(option), argument, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        raise OSError(ctypes.get_errno(), f"prctl option {option}: {os.strerror(ctypes.get_errno())}")


def _pidfd_call(number: int, first: int, second: int) -> int:
    """Make one of the two system calls that a Python built on an old Linux (conda's, for one) does not wrap."""
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_void_p(None)
    result: int = libc.syscall(ctypes.c_long(number), ctypes.c_int(first), ctypes.c_int(second), zero, zero)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def open_pidfd(pid: int) -> int:
    """Return a file descriptor that means exactly this process and is readable once it is dead (Linux 5.3)."""
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    return _pidfd_call(PIDFD_OPEN, pid, 0)


def send_signal(pidfd: int, number: int) -> None:
    """Send a signal to the process of a pidfd; one that is dead already is no mistake."""
    with suppress(ProcessLookupError):
        if hasattr(signal, "pidfd_send_signal"):
            signal.pidfd_send_signal(pidfd, number)
        else:
            _pidfd_call(PIDFD_SEND_SIGNAL, pidfd, number)


def descendants(*roots: int) -> list[int]:
    """Return the pids of all living and dead-but-not-reaped processes below ``roots``, parents first."""
    children_of = _listed_children if _kernel_lists_children() else _scanned_children()
    found = [pid for root in roots for pid in children_of(root)]
    for pid in found:
        found.extend(children_of(pid))
    return found


def _kernel_lists_children() -> bool:
    # CONFIG_PROC_CHILDREN; a scan of /proc costs milliseconds on a machine with thousands of processes.
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")  # noqa: PTH110


def _listed_children(pid: int) -> list[int]:
    children: list[int] = []
    # The process, or one of its threads, may end while it is read.
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                children.extend(map(int, file.read().split()))
    return children


class _scanned_children:  # noqa: N801 - called like a function
    """The children of every process, from one pass over /proc."""

    def __init__(self) -> None:
        self._children: dict[int, list[int]] = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
                text = file.read()
                # The name may hold spaces and parentheses: the fields begin after the last one.
                parent = int(text[text.rindex(b")") + 2 :].split()[1])
                self._children.setdefault(parent, []).append(int(pid))

    def __call__(self, pid: int) -> list[int]:
        return self._children.get(pid, [])


def main(arguments: Sequence[str]) -> int:
    """Start a zygote and guard it until pytest or the zygote ends; return how the zygote ended.

    Args:
        arguments: pid of the parent, file descriptor of the life pipe, those that only the zygote shall have (separated
            by commas), and the zygote's command line.

    Returns:
        The zygote's exit code, 128 + the number of the signal that killed it, or 0 where it was killed by plan.
    """
    parent, life, passed = int(arguments[0]), int(arguments[1]), [int(fd) for fd in arguments[2].split(",")]
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake, waker = _wake_up_on_signals()
    watched = [life, wake]
    # pytest may be dead before its pidfd is open; then this process has another parent already.
    pidfd = open_pidfd(parent)
    if os.getppid() != parent:
        return 0
    watched.append(pidfd)
    os.set_inheritable(life, False)
    zygote = _start(arguments[3:], waker)
    for fd in passed:
        os.close(fd)
    ended = _watch(watched, wake, zygote)
    _kill_all()
    return ended


def _wake_up_on_signals() -> tuple[int, int]:
    """Return a pipe that is readable after a signal; only the end of pytest or the zygote ends a guardian.

    Handlers rather than SIG_IGN: a process that is executed inherits what is ignored, and zygotes and DataLoader
    workers must be able to end on SIGTERM.
    """
    wake, waker = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(waker, False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda _number, _frame: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    return wake, waker


def _start(command: Sequence[str], waker: int) -> int:
    """Fork and execute the zygote in a session of its own, bound to this process."""
    guardian = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        os.close(waker)
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == guardian:
            os.execv(command[0], list(command))  # noqa: S606 - no shell wanted
    finally:
        os._exit(127)


def _watch(watched: Sequence[int], wake: int, zygote: int) -> int:
    while True:
        ready = select.select(watched, [], [])[0]
        if any(fd != wake for fd in ready):
            return 0
        with suppress(BlockingIOError):
            os.read(wake, 1 << 16)
        for pid, status in _reaped():
            if pid == zygote:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code


def _reaped() -> Iterator[tuple[int, int]]:
    """Collect the dead among the children, adopted ones included."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            yield pid, status


def _kill_all() -> None:
    """Kill everything below until there is nothing to wait for: each death may hand over further orphans."""
    with suppress(ChildProcessError):
        while True:
            for pid in descendants(os.getpid()):
                # It died by itself, or in one go with its parent.
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


if __name__ == "__main__":
    # Ending without the interpreter's clean-up saves 10 ms and has nothing to flush.
    os._exit(main(sys.argv[1:]))
