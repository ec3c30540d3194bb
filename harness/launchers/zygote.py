"""The zygote: a single-threaded process that has imported a framework, runs nothing of it, and forks ranks.

A forked rank is up in 10 ms where a spawned one imports its framework for seconds. That is safe only while the zygote
has one thread: a forked child has no copy of the others, and a thread team that an operation has started (OpenMP's,
TensorFlow's) is waited for in vain. So the threads are counted before every fork.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import io
import os
import signal
import socket
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from harness import worker
from harness.launchers import pages, protocol
from harness.launchers.guardian import PR_SET_NAME, PR_SET_PDEATHSIG, prctl
from harness.launchers.protocol import Answer, Fork, Forked, Reap, Reaped, Setup, Started

# TensorFlow's allocator starts this one at import; nobody waits for it.
HARMLESS_THREADS = ("jemalloc_bg_thd",)


def main(fd: int) -> NoReturn:
    """Answer the requests on socket ``fd`` until its other end is closed."""
    # Ctrl-C is for pytest, which decides what becomes of the ranks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A signal that asks a rank for its stacks may come before its handler is there.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # Newer Pythons warn of a fork beside threads; they are counted here, and the harmless one cannot be avoided.
    warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
    prctl(PR_SET_NAME, b"lockstep-zygote")
    # It came through an execution; none that a module does while it is imported shall have it.
    os.set_inheritable(fd, False)
    requests = socket.socket(fileno=fd)
    # pytest is gone; unread answers make that a reset rather than an end.
    with suppress(ConnectionError):
        _serve(requests)
    # A normal exit would unload the frameworks for half a second and complain about it.
    os._exit(0)


def _serve(requests: socket.socket) -> None:
    while True:
        packet, fds, _flags, _address = socket.recv_fds(requests, protocol.MAX_PACKET, 3, socket.MSG_CMSG_CLOEXEC)
        if not packet:
            return
        requests.sendall(protocol.encode(_answer(protocol.decode_request(packet), fds, requests)))
        for number in fds:
            os.close(number)


def _answer(request: protocol.Request, fds: list[int], requests: socket.socket) -> Answer:
    match request:
        case Setup():
            return _import(request.modules)
        case Fork():
            return _fork(request, fds, requests)
        case Reap():
            _pid, status = os.waitpid(request.pid, 0)
            return Reaped(code=os.waitstatus_to_exitcode(status))


def _import(modules: tuple[str, ...]) -> Started:
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException:  # reported, whatever it is
            return Started(pid=os.getpid(), failed=name, reason=traceback.format_exc(limit=-8)[-8_000:])
    # What is here now stays for ever: ranks that never touch it share its memory.
    gc.collect()
    gc.freeze()
    pages.collapse()
    return Started(pid=os.getpid())


def _fork(request: Fork, fds: list[int], requests: socket.socket) -> Forked:
    threads = _threads()
    if threads:
        return Forked(refused=f"it has threads besides the main one ({', '.join(threads)}), which ranks would wait for")
    zygote = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        return Forked(refused=f"{error}; end other processes or raise the limit (ulimit -u)")
    if pid == 0:
        _become_rank(request, fds, zygote, requests)
    return Forked(pid=pid)


def _threads() -> list[str]:
    """Return the names of all threads of this process that a fork must not happen beside."""
    names = [
        (task / "comm").read_text().strip()
        for task in Path("/proc/self/task").iterdir()
        if int(task.name) != os.getpid()
    ]
    return [name for name in names if name not in HARMLESS_THREADS]


def _become_rank(request: Fork, fds: list[int], zygote: int, requests: socket.socket) -> NoReturn:
    """Cut every tie to the zygote but its death, and be a rank until the end."""
    code = worker.BROKEN
    try:
        requests.close()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        prctl(PR_SET_NAME, f"ls-rank{request.rank}".encode())
        if os.getppid() != zygote:
            os._exit(code)
        os.setsid()
        channel, log, stacks = fds
        _redirect(log)
        faulthandler.enable(file=stacks, all_threads=True)
        faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True, chain=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.path[:] = request.path
        os.chdir(request.directory)
        os.environ.clear()
        os.environ.update(request.environment)
        code = worker.serve(channel)
    except BaseException:  # it goes to the log of the rank, and the exit code tells
        traceback.print_exc()
    finally:
        os._exit(code)


def _redirect(log: int) -> None:
    os.dup2(log, 1)
    os.dup2(log, 2)
    for stream in (sys.stdout, sys.stderr):
        # A rank may be killed at any moment: what it has printed must be in its log by then.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
