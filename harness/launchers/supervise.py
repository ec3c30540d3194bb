"""Watching ranks until something is reached or goes wrong, and finding out what went wrong.

A pidfd says that a rank is dead, and only that counts: helpers of a rank keep its sockets open, so an end of file may
never come, and a peer's error may come before the news of the death that caused it. So after the first bad news
everything is collected for a moment before anybody is blamed.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from harness import wire
from harness.launchers import outputs
from harness.launchers.causes import RankFailure, Sighting, explain
from harness.launchers.family import Family, ZygoteLostError
from harness.launchers.ranks import Rank, case_of, dump, kill
from harness.wire import Done, EpochDone, Failed, Message, Ready, Step, Told, Up

# How long news may travel after the first bad one.
COLLECT_S = 0.5
KILL_S = 5.0
# Packets read from one rank before the others get a hearing; the kernel queues fewer.
MAX_PACKETS = 64
# Bytes of a rank's output in the error's message, of its beginning and of its end.
_SHOWN = 1_000, 2_000
_SPEAK = "send what harness.wire defines; a number that is not finite arrives as null"


class Watch:
    """Reads what ranks say, in one thread, until a goal is reached, one is in trouble, or all fall silent."""

    def __init__(
        self, families: Sequence[Family], timeout_s: float, on_event: Callable[[int, Message], None] | None = None
    ) -> None:
        self.ranks: list[Rank] = []
        self.timeout_s = timeout_s
        self.timed_out = False
        self.lost: Family | None = None
        self.listening = True
        self._on_event = on_event
        self._selector = selectors.DefaultSelector()
        for family in families:
            # It speaks only when asked, so what can be read here is its end.
            self._selector.register(family.socket, selectors.EVENT_READ, ("zygote", family))

    def add(self, rank: Rank) -> None:
        """Watch another rank."""
        self.ranks.append(rank)
        self._selector.register(rank.channel, selectors.EVENT_READ, ("channel", rank))
        self._selector.register(rank.pidfd, selectors.EVENT_READ, ("pidfd", rank))

    def until(self, reached: Callable[[], bool], idle: Callable[[], float] | None = None) -> bool:
        """Handle events until ``reached()``; False when there is trouble instead.

        Trouble is a rank that failed, a zygote that died, or no message from any rank for ``timeout_s``. ``idle`` is
        called before each wait and returns how many seconds that may last at most.
        """
        self._heard()
        while not reached():
            if self.lost is not None or any(rank.in_trouble for rank in self.ranks):
                return False
            left_s = self._progress_s + self.timeout_s - time.monotonic()
            if left_s <= 0:
                self.timed_out = True
                return False
            self._handle(left_s if idle is None else min(left_s, idle()))
        return True

    def blame(self, rank: Rank, message: str) -> None:
        """Take note of a fault in what a rank says or does; the message tells what was expected, too."""
        rank.failed = rank.failed or Failed(kind="", message=message, traceback="")
        self._fail(rank)

    def collect(self) -> None:
        """Handle what comes in the wake of the first bad news, until nobody has anything left to say."""
        deadline = time.monotonic() + COLLECT_S
        while (left_s := deadline - time.monotonic()) > 0 and not all(map(_has_spoken, self.ranks)):
            self._handle(left_s)

    def wait_for_deaths(self, timeout_s: float) -> bool:
        """Wait until every rank is dead, whatever they say; return whether they are."""
        deadline = time.monotonic() + timeout_s
        while not all(rank.dead for rank in self.ranks):
            if (left_s := deadline - time.monotonic()) <= 0:
                return False
            self._handle(left_s)
        return True

    def close(self) -> None:
        """Stop watching and let go of the ranks."""
        self._selector.close()
        for rank in self.ranks:
            rank.close()

    def _heard(self) -> None:
        self._progress_s = time.monotonic()

    def _handle(self, timeout_s: float) -> None:
        for key, _mask in self._selector.select(timeout_s):
            kind, subject = key.data
            if kind == "zygote":
                self.lost = subject
                self._selector.unregister(key.fileobj)
            elif kind == "channel":
                self._read(subject)
            else:
                # What it said before it died counts first.
                self._read(subject)
                self._selector.unregister(key.fileobj)
                subject.dead = True
                self._fail(subject)

    def _read(self, rank: Rank) -> None:
        """Read all that the rank has sent so far."""
        for _ in range(MAX_PACKETS):
            try:
                packet = rank.channel.recv(wire.MAX_PACKET + 1, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except ConnectionError:
                packet = b""
            if not packet:
                # Not necessarily its death, which the pidfd will tell.
                with suppress(KeyError):
                    self._selector.unregister(rank.channel)
                return
            if self.listening:
                self._take(rank, packet)

    def _take(self, rank: Rank, packet: bytes) -> None:
        self._heard()
        rank.heard_s = self._progress_s
        try:
            message = wire.decode(packet)
        except msgspec.DecodeError as error:
            message = Failed(
                kind="ProtocolError", message=f"sent {packet[:200]!r}, no message: {error}; {_SPEAK}", traceback=""
            )
        match message:
            case Up():
                rank.up = True
            case Ready():
                rank.ready = True
            case Step(step=step):
                rank.step = step
            case EpochDone(epoch=epoch):
                rank.epoch, rank.num_epochs = epoch, rank.num_epochs + 1
            case Told(trace=trace):
                rank.told += (trace,)
            case Done(traces=traces):
                rank.traces = rank.told + traces
            case Failed():
                rank.failed = rank.failed or message
                self._fail(rank)
        if self._on_event is not None:
            self._on_event(rank.index, message)

    def _fail(self, rank: Rank) -> None:
        rank.failed_s = min(rank.failed_s, time.monotonic())


def _has_spoken(rank: Rank) -> bool:
    return rank.in_trouble or rank.ready or rank.traces is not None


def failure(watch: Watch) -> RankFailure | ZygoteLostError:
    """Find out what is wrong: wait for the news, dump stacks, end every rank, and name the guilty one."""
    began_s = time.monotonic()
    if not watch.timed_out:
        watch.collect()
    if watch.lost is not None:
        kill(watch.ranks)
        return watch.lost.lost()
    living = {rank.pid for rank in watch.ranks if not rank.dead}
    # A signal ends sleeps and stops: what a rank says once it was asked for its stack is not what it would have said.
    watch.listening = False
    dump(watch.ranks)
    kill(watch.ranks)
    watch.wait_for_deaths(KILL_S)
    for rank in watch.ranks:
        rank.reap()
    sightings = [_sighting(rank, living=rank.pid in living, began_s=began_s) for rank in watch.ranks]
    return explain(sightings, timed_out=watch.timeout_s if watch.timed_out else None)


def _sighting(rank: Rank, *, living: bool, began_s: float) -> Sighting:
    return Sighting(
        case=case_of(rank.job),
        label=rank.label,
        rank=rank.job.rank,
        step=rank.step,
        code=None if living else rank.code,
        failed=rank.failed,
        finished=rank.traces is not None and not (living and rank.released),
        idle=rank.ready,
        stopped=rank.stopped,
        at_s=rank.failed_s,
        quiet_s=max(0.0, began_s - rank.heard_s),
        stack=outputs.text(os.pread(rank.stacks, 1 << 18, 0)),
        log=outputs.shortened(rank.log, *_SHOWN)[0],
        log_path=str(rank.log),
        group=rank.group,
        output=rank.output(),
    )
