"""What pytest asks of a zygote, and the answers: one JSON packet a request, one an answer, in turns."""

from __future__ import annotations

import msgspec

from harness.spec import Value

# A packet holds the environment and sys.path of pytest; Linux takes about 200 kB.
MAX_PACKET = 200_000


class Setup(Value, frozen=True, kw_only=True, tag="setup"):
    """Import these modules."""

    modules: tuple[str, ...]


class Fork(Value, frozen=True, kw_only=True, tag="fork"):
    """Fork a rank that sees what pytest sees now: module search path, current directory, environment.

    Three file descriptors come with it: its end of the channel, its log, and the file for its stacks.
    """

    rank: int
    path: tuple[str, ...]
    directory: str
    environment: dict[str, str]


class Reap(Value, frozen=True, kw_only=True, tag="reap"):
    """Wait for a rank that is dead and forget it; until then its pid stays taken."""

    pid: int


class Started(Value, frozen=True, kw_only=True, tag="started"):
    """The modules are imported; or the first that could not be, and why."""

    pid: int
    failed: str | None = None
    reason: str = ""


class Forked(Value, frozen=True, kw_only=True, tag="forked"):
    """The pid of the rank; or why no rank was forked."""

    pid: int = 0
    refused: str | None = None


class Reaped(Value, frozen=True, kw_only=True, tag="reaped"):
    """The exit code of a rank, or minus the signal that killed it."""

    code: int


Request = Setup | Fork | Reap
Answer = Started | Forked | Reaped

encode = msgspec.json.encode
decode_request = msgspec.json.Decoder(Request).decode
decode_answer = msgspec.json.Decoder(Answer).decode
