"""The messages between a supervisor and its ranks, and a rank's end of the channel.

A channel is a SOCK_SEQPACKET pair that belongs to the supervisor: one JSON message a packet, checked when read;
nothing is unpickled and nothing listens. A packet may not exceed about 200 kB, so arrays travel as files and tracebacks
are cut.
"""

from __future__ import annotations

import os
import socket

import msgspec

from harness.record import Trace
from harness.spec import Job, Value
from harness.timings import Epoch

MAX_PACKET = 180_000


class Up(Value, frozen=True, kw_only=True, tag="up"):
    """The rank has set its signal handlers and is about to read its job."""


class Step(Value, frozen=True, kw_only=True, tag="step"):
    """Training step ``step`` has ended."""

    step: int


class Ready(Value, frozen=True, kw_only=True, tag="ready"):
    """The rank has finished its set-up, or its last epoch, and waits for its turn."""


class EpochDone(Value, frozen=True, kw_only=True, tag="epoch"):
    """One epoch was timed."""

    epoch: Epoch


class Told(Value, frozen=True, kw_only=True, tag="told"):
    """A trace of many, which together do not fit into one packet; the last ones come with ``Done``."""

    trace: Trace


class Done(Value, frozen=True, kw_only=True, tag="done"):
    """The strategy returned. One process may have observed several ranks (replicas on threads or logical devices)."""

    traces: tuple[Trace, ...]


class Failed(Value, frozen=True, kw_only=True, tag="failed"):
    """The strategy raised ``kind``; ``leaked`` names threads it left running.

    ``kind`` is empty where the supervisor saw a fault in what the rank says or does.
    """

    kind: str
    message: str
    traceback: str
    leaked: bool = False


class Turn(Value, frozen=True, kw_only=True, tag="turn"):
    """From the supervisor: train one epoch now, or stop training and finish; one to ``profile`` is not timed.

    Without ``parts`` the epoch is timed as a whole.
    """

    go: bool
    profile: bool = False
    parts: bool = True


Message = Up | Step | Ready | EpochDone | Told | Done | Failed
Order = Job | Turn

_decode_message = msgspec.json.Decoder(Message).decode
_decode_turn = msgspec.json.Decoder(Turn).decode
_decode_job = msgspec.json.Decoder(Job).decode


def encode(message: Message | Order) -> bytes:
    """Return the packet for ``message``; a failure too long for a packet is cut in its middle."""
    packet = msgspec.json.encode(message)
    if len(packet) > MAX_PACKET and isinstance(message, Failed):
        cut = message.traceback[:2_000] + "\n[...]\n" + message.traceback[-20_000:]
        packet = msgspec.json.encode(msgspec.structs.replace(message, traceback=cut, message=message.message[:2_000]))
    return packet


def decode(packet: bytes) -> Message:
    """Return the rank's message in ``packet``; raise msgspec.ValidationError when it is not one."""
    message: Message = _decode_message(packet)
    return message


class Channel:
    """A rank's end of the channel; without a supervisor (``fd`` -1) it says nothing and grants ``num_epochs`` turns.

    Each channel works on a copy of ``fd``, so that a rank and the loop it runs can have one each.
    """

    def __init__(self, fd: int, num_epochs: int = 1) -> None:
        self._socket = socket.socket(fileno=os.dup(fd)) if fd >= 0 else None
        self._turns_left = num_epochs

    def send(self, message: Message) -> None:
        """Send ``message`` to the supervisor."""
        if self._socket is not None:
            self._socket.send(encode(message))

    def job(self) -> Job:
        """Wait for the job."""
        assert self._socket is not None, "a rank without a channel gets its job as an argument"
        return _decode_job(self._socket.recv(MAX_PACKET + 1))

    def turn(self) -> Turn | None:
        """Say that the rank is ready and wait for its turn; None means that the training is over."""
        if self._socket is None:
            self._turns_left -= 1
            return Turn(go=True) if self._turns_left >= 0 else None
        self.send(Ready())
        packet = self._socket.recv(MAX_PACKET + 1)
        turn = _decode_turn(packet) if packet else None
        return turn if turn is not None and turn.go else None

    def wait_for_release(self) -> None:
        """Wait until the supervisor ends the conversation, which it does once all ranks of the training are done."""
        while self._socket is not None and self._socket.recv(MAX_PACKET + 1):
            pass
