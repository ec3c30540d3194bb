"""Ranks that stop taking part: one that raises, dies, ends early or hangs, and ranks that ask for different things."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from harness.faults.base import Expected, Seams, Site, bug
from harness.faults.scope import PROCESSES
from harness.spec import Job

# The step in which the last rank fails: late enough that all have trained together.
STRUCK = 2


def _fails(words: str) -> Callable[[Site], Expected]:
    """Expect the last rank to be named with ``words``."""

    def expect(site: Site) -> Expected:
        said = words.format(last=f"last step {STRUCK - 1}")
        return Expected(step=STRUCK, ranks=(site.last_rank,), failure=f"rank {site.last_rank} {said}")

    return expect


def _on_last_rank(job: Job, fail: Callable[[], object]) -> Seams:
    def begin(step: int) -> None:
        if step == STRUCK:
            fail()

    return Seams(begin=begin) if job.rank == job.world_size - 1 else Seams()


@bug(
    "rank-raises",
    report="Megatron-LM PR #7572, composer #477: one rank raises while its peers block in a collective",
    entry=46,
    on=PROCESSES,
    expects=_fails("raised FloatingPointError: the loss is not a number"),
)
def rank_raises(job: Job) -> Seams:
    """The last rank raises in the third step; its peers wait for it in a collective."""

    def fail() -> None:
        raise FloatingPointError("the loss is not a number")

    return _on_last_rank(job, fail)


@bug(
    "rank-exits",
    report="horovod #832: a rank that ran out of batches leaves while the others train on",
    entry=46,
    on=PROCESSES,
    expects=_fails("exited with code 3 ({last})"),
)
def rank_exits(job: Job) -> Seams:
    """The last rank ends its process in the third step."""
    return _on_last_rank(job, lambda: os._exit(3))


@bug(
    "rank-killed",
    report="pytorch #43699: a rank out of memory is killed by the kernel",
    entry=46,
    on=PROCESSES,
    expects=_fails("was killed by SIGKILL ({last})"),
)
def rank_killed(job: Job) -> Seams:
    """The last rank is killed in the third step."""
    return _on_last_rank(job, lambda: os.kill(os.getpid(), signal.SIGKILL))


@bug(
    "rank-segfaults",
    report="horovod #1676: a native library crashes on one rank",
    entry=46,
    on=PROCESSES,
    expects=_fails("was killed by SIGSEGV ({last})"),
)
def rank_segfaults(job: Job) -> Seams:
    """The last rank crashes in the third step."""
    return _on_last_rank(job, lambda: os.kill(os.getpid(), signal.SIGSEGV))


@bug(
    "rank-hangs",
    report="pytorch #20630: a rank that waits for something else never comes to the collective",
    entry=46,
    on=PROCESSES,
    expects=_fails("hung: no progress for"),
)
def rank_hangs(job: Job) -> Seams:
    """The last rank waits for ever in the third step."""
    return _on_last_rank(job, threading.Event().wait)
