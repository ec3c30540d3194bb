"""Which rank's failure caused the others': ranking what was seen, and saying it; pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from harness.errors import RankError
from harness.launchers.outputs import MOST_RANKS
from harness.record import Log
from harness.wire import Failed

# In the order in which they explain one another; "finished" and "running" explain nothing.
Kind = Literal["signal", "exit", "exception", "hang", "collective", "running", "finished"]
ORDER: tuple[Kind, ...] = ("signal", "exit", "exception", "hang", "collective", "running", "finished")

# Errors of the communication libraries when a peer has gone or does not come.
_KINDS = re.compile(
    r"Dist(Backend|Network|Store)?Error|HorovodInternalError|HostsUpdatedInterrupt|UnavailableError|AbortedError"
    r"|CancelledError|DeadlineExceededError|Connection\w*Error|BrokenPipeError|EOFError|TimeoutError"
)
# What the libraries raise from C++ is told apart by its words only.
_UNSPECIFIC = ("RuntimeError", "InternalError", "UnknownError")
_WORDS = re.compile(
    r"gloo|nccl|connection (closed|reset|refused|aborted)|broken pipe|read error|socket (timeout|closed)|timed out|"
    r"wait timeout|clients joined|collective|all_?reduce|peer|coordination service|shut ?down",
    re.IGNORECASE,
)
# Where such errors pass through, and where a rank stands that waits for its peers (DDP waits inside backward).
_LIBRARIES = re.compile(
    r"[/\\](torch[/\\](distributed|autograd[/\\]graph|nn[/\\]parallel)|horovod|tensorflow[/\\]python|deepspeed|mpi4py)"
)
# Tensor parallelism waits in an operator of torch.ops, whose frame lies above the library's.
_OPERATORS = re.compile(r"[/\\]torch[/\\]_ops\.py$")
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+),? in (?P<function>.+?)\s*$', re.MULTILINE)
# What faulthandler writes below every strategy, and after it.
_OWN_LINES = re.compile(
    r'^  File "(<string>|.*[/\\]harness[/\\](worker|launchers[/\\]zygote)\.py)", line \d+ in |^Extension modules: '
)
_HINTS = {
    "SIGKILL": "if nobody sent it, memory ran out (dmesg tells): use fewer ranks or a smaller model",
    "SIGBUS": "a full /dev/shm does that: make room there, or set TMPDIR and LOCKSTEP_SCRATCH to a disk",
}
_MISMATCH = (
    "gloo aborts a rank that is sent what it has not asked for: the ranks called different collectives, in another "
    "order or of other sizes; compare where they stood"
)
# A rank that has said something so shortly before a peer's collective failed is at work, not hanging.
QUIET_S = 1.0
MAX_STACK_LINES = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """What was seen of one rank when its case ended.

    Attributes:
        label: ``rank 1``, or ``torch-ddp rank 1`` where several trainings ran side by side.
        step: the last step it reported.
        code: how its process ended by itself: an exit code, or minus a signal; None while it lived.
        failed: what it reported itself.
        finished: whether it had trained to the end.
        idle: whether it waited for its turn to train.
        stopped: whether it was found stopped by a signal.
        at_s: when it failed, by the monotonic clock; infinite if it did not.
        quiet_s: how long it had said nothing when the trouble began.
        stack: what faulthandler wrote: on a fatal signal, or when asked.
        log: the tail of its output, and ``log_path`` where all of it is.
        group: which of the trainings that ran side by side it belongs to.
        output: more of its output, for the record.
    """

    case: str
    label: str
    rank: int
    step: int | None = None
    code: int | None = None
    failed: Failed | None = None
    finished: bool = False
    idle: bool = False
    stopped: bool = False
    at_s: float = float("inf")
    quiet_s: float = 0.0
    stack: str = ""
    log: str = ""
    log_path: str = ""
    group: int = 0
    output: Log | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """A sighting with what it means."""

    seen: Sighting
    kind: Kind
    text: str


class RankFailure(RankError):  # noqa: N818 - a name that callers know
    """A rank raised, died, hung or left something behind; the message tells which, why, and what its peers saw.

    Attributes:
        case: workload/strategy/world size/device.
        rank: the guilty one.
        kind: how it failed; see Kind, or "stray" for a process left behind.
        cause: the same in words, without the rank.
        stacks: by label, what is known of where each rank was.
        logs: by label, the tail of each rank's output.
        others: what the other ranks saw, a line each.
        outputs: what the ranks of the guilty one's training printed and where they stood, its own first.
    """

    def __init__(
        self,
        message: str,
        *,
        case: str,
        rank: int,
        kind: str,
        cause: str,
        stacks: Mapping[str, str] | None = None,
        logs: Mapping[str, str] | None = None,
        others: Sequence[str] = (),
        outputs: Sequence[Log] = (),
    ) -> None:
        super().__init__(message)
        self.case, self.rank, self.kind, self.cause = case, rank, kind, cause
        self.stacks, self.logs, self.others = dict(stacks or {}), dict(logs or {}), tuple(others)
        self.outputs = tuple(outputs)


def explain(sightings: Sequence[Sighting], *, timed_out: float | None) -> RankFailure:
    """Return the error that names the guilty rank.

    Args:
        sightings: all ranks of all trainings that ran together.
        timed_out: the limit without progress that was reached, or None where a rank failed by itself.
    """
    causes = sorted(_causes(sightings, timed_out), key=lambda cause: (ORDER.index(cause.kind), cause.seen.at_s))
    guilty, others = causes[0], [_line(cause) for cause in causes[1:]]
    stacks = {cause.seen.label: _stack(cause.seen) for cause in causes}
    parts = [f"{guilty.seen.case}: {guilty.seen.label} {guilty.text}", *others]
    # Where no rank is to blame for sure, what tells is where each of them stood.
    shown = [cause.seen.label for cause in (causes if guilty.kind == "hang" or _mismatched(causes) else [guilty])]
    parts += [f"stack of {label}:\n{_indented(stacks[label])}" for label in shown if stacks[label]]
    parts += [hint for word, hint in _HINTS.items() if guilty.kind == "signal" and word in guilty.text]
    parts += [_MISMATCH] if _mismatched(causes) else []
    if guilty.seen.log:
        parts.append(
            f"output of {guilty.seen.label}, all of it in {guilty.seen.log_path}:\n{_indented(guilty.seen.log)}"
        )
    return RankFailure(
        "\n".join(parts),
        case=guilty.seen.case,
        rank=guilty.seen.rank,
        kind=guilty.kind,
        cause=guilty.text,
        stacks=stacks,
        logs={cause.seen.label: cause.seen.log for cause in causes},
        others=others,
        outputs=_outputs(causes, stacks),
    )


def _outputs(causes: Sequence[Cause], stacks: Mapping[str, str]) -> list[Log]:
    """Return what the ranks of the guilty one's training printed, its own first."""
    guilty = causes[0].seen
    own = sorted((c.seen for c in causes if c.seen.group == guilty.group), key=lambda s: (s is not guilty, s.rank))
    return [
        msgspec.structs.replace(seen.output, stack=stacks[seen.label])
        for seen in own[:MOST_RANKS]
        if seen.output is not None
    ]


def _causes(sightings: Sequence[Sighting], timed_out: float | None) -> list[Cause]:
    causes = [_own(seen) for seen in sightings]
    if all(ORDER.index(cause.kind) > ORDER.index("exception") for cause in causes):
        # Nobody failed for a reason of their own: then somebody who did not come made the others wait.
        causes = _hangs(causes, timed_out)
    return causes


def _own(seen: Sighting) -> Cause:
    """Return what a rank's sighting means by itself."""
    if seen.failed is not None:
        kind: Kind = "collective" if is_collective(seen.failed) else "exception"
        raised = seen.failed.kind and not seen.failed.leaked
        text = f"raised {seen.failed.kind}: {seen.failed.message}" if raised else seen.failed.message
        return Cause(seen=seen, kind=kind, text=text.removesuffix(": "))
    if seen.code is not None and seen.code < 0:
        # An abort may be a library's answer to a peer's failure: then the peer's came first.
        kind = "exception" if seen.code == -signal.SIGABRT else "signal"
        return Cause(seen=seen, kind=kind, text=f"was killed by {_signal(-seen.code)}{_progress(seen)}")
    if seen.code is not None and (seen.code or not seen.finished):
        return Cause(seen=seen, kind="exit", text=f"exited with code {seen.code}{_progress(seen)}")
    if seen.finished or seen.idle:
        return Cause(seen=seen, kind="finished", text="had finished" if seen.finished else "waited for its turn")
    where = _where(seen.stack)
    return Cause(seen=seen, kind="running", text=(f"was in {where}" if where else "was running") + _progress(seen))


def _hangs(causes: list[Cause], timed_out: float | None) -> list[Cause]:
    """Turn the rank that made the others wait into a hang: stopped, or not waiting for anybody, or behind."""
    limit = QUIET_S if timed_out is None else 0.0
    suspects = [cause for cause in causes if cause.kind == "running" and cause.seen.quiet_s >= limit]
    if timed_out is None:
        # A collective failed: a peer that waits in one, too, is a victim like the one that told.
        suspects = [cause for cause in suspects if cause.seen.stopped or not _waits(cause.seen.stack)]
    if not suspects:
        return causes
    guilty = min(suspects, key=_suspicion)
    kept = [cause for cause in causes if cause is not guilty]
    for_s = timed_out if timed_out is not None else guilty.seen.quiet_s
    text = "was stopped by a signal" if guilty.seen.stopped else "hung"
    at = f", in {_where(guilty.seen.stack)}" if _where(guilty.seen.stack) else ""
    text = f"{text}: no progress for {for_s:.3g} s, {_last(guilty.seen)}{at}"
    return [Cause(seen=guilty.seen, kind="hang", text=text), *kept]


def _suspicion(cause: Cause) -> tuple[bool, bool, int]:
    """Sort key: the likeliest culprit of a hang first."""
    step = -1 if cause.seen.step is None else cause.seen.step
    return (not cause.seen.stopped, _waits(cause.seen.stack), step)


def is_collective(failed: Failed) -> bool:
    """Whether an exception is what a communication library raises when a peer has gone."""
    if not (_KINDS.fullmatch(failed.kind) or (failed.kind in _UNSPECIFIC and _WORDS.search(failed.message))):
        return False
    return bool(_LIBRARIES.search(failed.traceback) or re.search("gloo|nccl", failed.message, re.IGNORECASE))


def _main_frames(stack: str) -> list[re.Match[str]]:
    """Return the frames of the main thread, innermost first; faulthandler writes it last."""
    blocks = re.split(r"^(?:Current thread|Thread) 0x.*$", stack, flags=re.MULTILINE)
    return list(_FRAME.finditer(blocks[-1]))


def _mismatched(causes: Sequence[Cause]) -> bool:
    """Whether a rank was aborted in a communication library though no peer had failed by itself."""
    first, *others = causes
    by_itself = all(ORDER.index(cause.kind) > ORDER.index("exception") for cause in others)
    return first.seen.code == -signal.SIGABRT and _waits(first.seen.stack) and by_itself


def _waits(stack: str) -> bool:
    """Whether the main thread stands in a communication library, or in an operator that this calls."""
    frames = [frame for frame in _main_frames(stack) if not _OPERATORS.search(frame["file"])]
    return bool(frames) and _LIBRARIES.search(frames[0]["file"]) is not None


def _where(stack: str) -> str:
    frames = _main_frames(stack)
    if not frames:
        return ""
    return f"{frames[0]['function']} ({frames[0]['file']}:{frames[0]['line']})"


def _stack(seen: Sighting) -> str:
    text = (seen.failed.traceback if seen.failed is not None else seen.stack).strip()
    lines = [line for line in text.splitlines() if not _OWN_LINES.search(line)]
    if len(lines) > MAX_STACK_LINES:
        lines = [*lines[: MAX_STACK_LINES // 2], "[...]", *lines[-MAX_STACK_LINES // 2 :]]
    return "\n".join(lines)


def _line(cause: Cause) -> str:
    first = cause.text.strip().splitlines()[0] if cause.text.strip() else ""
    return f"  {cause.seen.label} {first[:300]}"


def _last(seen: Sighting) -> str:
    return "no step yet" if seen.step is None else f"last step {seen.step}"


def _progress(seen: Sighting) -> str:
    return f" ({_last(seen)})"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines())
