"""The supervisor's end of one guardian and its zygote: starting them, forking ranks, finding what ranks leave."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.errors import BrokenPluginError, RankError
from harness.launchers import guardian, protocol
from harness.launchers.protocol import Fork, Forked, Reap, Reaped, Request, Setup, Started

# Importing frameworks from a cold disk takes this long at worst; forking and reaping take milliseconds.
IMPORT_TIMEOUT_S = 300.0
ANSWER_TIMEOUT_S = 30.0
# A helper process whose rank has ended may need a moment to notice.
STRAY_GRACE_S = 1.0
KILL_TIMEOUT_S = 5.0
# A zygote that starts with other values has threads that a fork would lose: numpy's BLAS starts a team at import.
SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1"}
A = TypeVar("A", Started, Forked, Reaped)
_BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from harness.launchers import zygote; zygote.main(int(sys.argv[1]))"
)


class ZygoteLostError(RankError):
    """The zygote died or answers no more, and its ranks with it; the next run starts another one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stray:
    """A living process that no rank should have left: its session is the pid of the rank, unless it made its own."""

    pid: int
    session: int
    name: str
    command: str


class Family:
    """One guardian and its zygote, from their start (which does not wait for the imports) to their end."""

    def __init__(self, name: str, modules: Sequence[str]) -> None:
        self.name = name
        self.modules = tuple(modules)
        self.pid: int | None = None
        self.closed = False
        # Whether a request waits for its answer: an interrupt in between leaves the two out of step for good.
        self.busy = False
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        life, self._life = os.pipe()
        with ExitStack() as stack:
            stack.callback(os.close, life)
            stack.enter_context(theirs)
            self._output = os.memfd_create("zygote")
            self._guardian = _start(life, theirs.fileno(), self._output)
        self._send(Setup(modules=self.modules))

    def wait_until_ready(self) -> None:
        """Return once the zygote has imported its modules.

        Raises:
            BrokenPluginError: one of them cannot be imported.
            ZygoteLostError: the zygote died of them.
        """
        if self.pid is not None:
            return
        answer = self._answer(IMPORT_TIMEOUT_S, Started)
        if answer.failed is not None:
            self.close()
            raise BrokenPluginError(
                f"expected the {self.name} zygote to import {answer.failed!r} but it raised\n{answer.reason}"
                "install or mend that module, or take it out of what the strategy preloads"
            )
        self.pid = answer.pid

    def fork(self, request: Fork, fds: Sequence[int]) -> int:
        """Return the pid of a new rank, which gets copies of ``fds``.

        Raises:
            RankError: forking is not safe or not possible now.
            ZygoteLostError: the zygote died.
        """
        self._send(request, fds)
        answer = self._answer(ANSWER_TIMEOUT_S, Forked)
        if answer.refused is not None:
            modules = ", ".join(self.modules) or "nothing"
            raise RankError(f"the {self.name} zygote (it has imported {modules}) can fork no rank: {answer.refused}")
        return answer.pid

    def reap(self, pid: int) -> int:
        """Return how a dead rank ended (exit code, or minus a signal), and let its pid go."""
        self._send(Reap(pid=pid))
        return self._answer(ANSWER_TIMEOUT_S, Reaped).code

    def processes(self) -> list[int]:
        """Return the pids of everything below the guardian, the zygote included."""
        return guardian.descendants(self._guardian.pid)

    def strays(self) -> tuple[Stray, ...]:
        """Return every living process below the guardian but the zygote."""
        below = (pid for pid in self.processes() if pid != self.pid)
        return tuple(stray for stray in map(_inspect, below) if stray is not None)

    def lasting_strays(self) -> tuple[Stray, ...]:
        """Return the strays that a short grace does not end."""
        deadline = time.monotonic() + STRAY_GRACE_S
        while (left := self.strays()) and time.monotonic() < deadline:
            time.sleep(0.005)
        return left

    def kill_strays(self) -> bool:
        """Kill every process but the zygote until none is left; return whether that worked."""
        deadline = time.monotonic() + KILL_TIMEOUT_S
        while left := self.strays():
            if time.monotonic() > deadline:
                return False
            _kill({stray.pid for stray in left}, self._guardian.pid)
            time.sleep(0.002)
        return True

    def alive(self) -> bool:
        """Whether the zygote still listens; no process but it holds the other end of the socket."""
        if self.closed:
            return False
        self.socket.setblocking(False)
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except ConnectionError:
            return False

    def lost(self, how: str | None = None) -> ZygoteLostError:
        """End what is left of a zygote that died or hangs and return the error that tells how it ended."""
        size = os.fstat(self._output).st_size
        output = os.pread(self._output, 2_000, max(0, size - 2_000)).decode(errors="replace").strip()
        ended = self.close()
        who = f"the {self.name} zygote" + (
            f" (pid {self.pid})" if self.pid else f", importing {', '.join(self.modules)},"
        )
        shown = f"\nits output:\n{output}" if output else ""
        return ZygoteLostError(f"{who} {how or ended}, and its ranks with it; the next run starts a new one{shown}")

    def close(self) -> str:
        """End the zygote and all below it; return how it had ended, if it had ended before."""
        if self.closed:
            return "was ended"
        if not self.alive():
            # It is dead, and its guardian about to say how.
            with suppress(subprocess.TimeoutExpired):
                self._guardian.wait(KILL_TIMEOUT_S)
        self.closed = True
        os.close(self._life)
        os.close(self._output)
        self.socket.close()
        try:
            code = self._guardian.wait(KILL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # Its zygote dies with it, and every rank with the zygote.
            self._guardian.kill()
            code = self._guardian.wait()
        return _told(code)

    def _send(self, request: Request, fds: Iterable[int] = ()) -> None:
        self.busy = True
        self.socket.settimeout(ANSWER_TIMEOUT_S)
        try:
            socket.send_fds(self.socket, [protocol.encode(request)], list(fds))
        except ConnectionError as error:
            raise self.lost() from error

    def _answer(self, timeout_s: float, kind: type[A]) -> A:
        """Wait for the answer to a request; a zygote that gives none is given up."""
        self.socket.settimeout(timeout_s)
        try:
            packet = self.socket.recv(protocol.MAX_PACKET)
        except TimeoutError as error:
            raise self.lost(f"has not answered for {timeout_s:g} s") from error
        except ConnectionError as error:
            raise self.lost() from error
        if not packet:
            raise self.lost()
        answer = protocol.decode_answer(packet)
        assert isinstance(answer, kind)
        self.busy = False
        return answer


def _start(life: int, theirs: int, output: int) -> subprocess.Popen[bytes]:
    """Start a guardian that starts a zygote; Ctrl-C reaches neither, as both have sessions of their own."""
    zygote = [sys.executable, "-c", _BOOTSTRAP, str(theirs), json.dumps([str(entry) for entry in sys.path])]
    file = str(Path(guardian.__file__))
    return subprocess.Popen(
        [sys.executable, "-I", "-S", file, str(os.getpid()), str(life), str(theirs), *zygote],
        pass_fds=(life, theirs),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        env=os.environ | SINGLE_THREADED,
    )


def _told(code: int) -> str:
    if code < 0:
        return f"was ended as its guardian was killed by {signal.Signals(-code).name}"
    if code > 128:
        return f"was killed by {signal.Signals(code - 128).name}"
    return f"exited with code {code}" if code else "was ended"


def _inspect(pid: int) -> Stray | None:
    """Return what is known of a process, or None when it is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None
    name, rest = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
    if rest[0] in "ZX":
        return None
    # A forked process shows the zygote's command line; the name is its own.
    forked = _BOOTSTRAP in command
    return Stray(pid=pid, session=int(rest[3]), name=name, command=name if forked else command[:200] or name)


def _kill(pids: set[int], root: int) -> None:
    """Kill those that are still below ``root`` when a pidfd holds them: till then one may die and its pid be reused."""
    held: dict[int, int] = {}
    for pid in pids:
        with suppress(ProcessLookupError):
            held[pid] = guardian.open_pidfd(pid)
    for pid in held.keys() & set(guardian.descendants(root)):
        guardian.send_signal(held[pid], signal.SIGKILL)
    for pidfd in held.values():
        os.close(pidfd)
