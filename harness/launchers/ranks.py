"""One rank as its supervisor sees it: starting it, asking for its stacks, ending it."""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness import wire
from harness.launchers import guardian, outputs
from harness.launchers.family import Family
from harness.launchers.pause import states
from harness.launchers.protocol import Fork
from harness.record import Log, Trace
from harness.spec import Job
from harness.timings import Epoch
from harness.wire import Failed, Order

# How long a dump of stacks may take, and a death after SIGKILL.
DUMP_S = 0.3
DUMP_TICK_S = 0.01


@dataclass(slots=True, kw_only=True)
class Rank:
    """One rank process and what has been heard of it; changes as it goes on."""

    group: int
    index: int
    label: str
    job: Job
    family: Family
    pid: int
    pidfd: int
    channel: socket.socket
    stacks: int
    log: Path
    up: bool = False
    ready: bool = False
    step: int | None = None
    epoch: Epoch | None = None
    num_epochs: int = 0
    told: tuple[Trace, ...] = ()
    traces: tuple[Trace, ...] | None = None
    failed: Failed | None = None
    released: bool = False
    dead: bool = False
    code: int | None = None
    stopped: bool = False
    failed_s: float = math.inf
    heard_s: float = 0.0

    @property
    def in_trouble(self) -> bool:
        """Whether it has failed or died before its time."""
        return self.failed is not None or (self.dead and not (self.traces is not None and self.released))

    def send(self, order: Order) -> None:
        """Send an order; a rank that is dead is told by its pidfd."""
        with suppress(ConnectionError):
            self.channel.send(wire.encode(order))

    def release(self) -> None:
        """End the conversation: the rank may go."""
        self.released = True
        with suppress(OSError):
            self.channel.shutdown(socket.SHUT_WR)

    def reap(self) -> None:
        """Learn how it ended and let its pid go, if it is dead; only a zygote knows."""
        if self.dead and self.code is None and not self.family.closed:
            self.code = self.family.reap(self.pid)

    def output(self) -> Log:
        """Return what it printed, for the record of a failed case; ranks of the first group are those of the case."""
        who = self.label if self.group else f"rank {self.job.rank}"
        return msgspec.structs.replace(outputs.read(who, self.log, outputs.FAILED), path=str(self.log))

    def close(self) -> None:
        """Close what the supervisor holds of it."""
        self.channel.close()
        os.close(self.pidfd)
        os.close(self.stacks)


def start(family: Family, job: Job, *, group: int, index: int, label: str) -> Rank:
    """Fork a rank and send it its job; its output goes to ``rank<r>.log`` in the job's directory."""
    Path(job.directory).mkdir(parents=True, exist_ok=True)
    log = outputs.file_of(job)
    request = Fork(
        rank=job.rank, path=tuple(map(str, sys.path)), directory=str(Path.cwd()), environment=dict(os.environ)
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ExitStack() as undo, theirs:
        undo.enter_context(ours)
        stacks = os.memfd_create(f"stacks of rank {job.rank}")
        undo.callback(os.close, stacks)
        with log.open("wb") as output:
            pid = family.fork(request, (theirs.fileno(), output.fileno(), stacks))
        # Dead or alive, the pid stays taken until the zygote is told to reap it.
        pidfd = guardian.open_pidfd(pid)
        undo.pop_all()
    ours.setblocking(True)
    rank = Rank(
        group=group, index=index, label=label, job=job, family=family, pid=pid, pidfd=pidfd, channel=ours,
        stacks=stacks, log=log, heard_s=time.monotonic(),
    )  # fmt: skip
    rank.send(job)
    return rank


def dump(ranks: Sequence[Rank]) -> None:
    """Ask living ranks for their Python stacks, and wait a moment until they are written."""
    asked = [rank for rank in ranks if rank.up and not rank.dead]
    for rank in asked:
        rank.stopped = "T" in states(rank.pid)
    sizes = {rank.pid: 0 for rank in asked}
    for rank in asked:
        guardian.send_signal(rank.pidfd, signal.SIGUSR1)
        guardian.send_signal(rank.pidfd, signal.SIGCONT)
    deadline = time.monotonic() + DUMP_S
    while sizes and time.monotonic() < deadline:
        time.sleep(DUMP_TICK_S)
        new = {rank.pid: os.fstat(rank.stacks).st_size for rank in asked}
        if all(new.values()) and new == sizes:
            return
        sizes = new


def kill(ranks: Sequence[Rank]) -> None:
    """Kill ranks and the processes of their group, those of dead ranks included, as long as they are not reaped."""
    for rank in ranks:
        if rank.code is not None:
            continue
        guardian.send_signal(rank.pidfd, signal.SIGKILL)
        # It is not reaped yet, so no other group can have this number; a rank that died at birth has none.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(rank.pid, signal.SIGKILL)


def case_of(job: Job) -> str:
    """Return the id of the case that a job belongs to."""
    return f"{job.workload.name}/{job.strategy}/{job.world_size}/{job.device}"
