"""Ranks that stop taking part: one that raises, dies, ends early or hangs, and ranks that ask for different things."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from harness.faults.base import Expected, Opaque, Seams, Site, bug
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
    entry=48,
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
    report="torch/testing/_internal/common_distributed.py: a rank 1 that exits with code 3 passes as ok",
    entry=49,
    on=PROCESSES,
    expects=_fails("exited with code 3 ({last})"),
)
def rank_exits(job: Job) -> Seams:
    """The last rank ends its process in the third step."""
    return _on_last_rank(job, lambda: os._exit(3))


@bug(
    "rank-killed",
    report="torch/testing/_internal/common_distributed.py: a killed rank 1 passes as ok",
    entry=49,
    on=PROCESSES,
    expects=_fails("was killed by SIGKILL ({last})"),
)
def rank_killed(job: Job) -> Seams:
    """The last rank is killed in the third step."""
    return _on_last_rank(job, lambda: os.kill(os.getpid(), signal.SIGKILL))


@bug(
    "rank-segfaults",
    report="DeepSpeed tests/unit/common.py: a rank that crashes is waited for, 600 s long",
    entry=49,
    on=PROCESSES,
    expects=_fails("was killed by SIGSEGV ({last})"),
)
def rank_segfaults(job: Job) -> Seams:
    """The last rank crashes in the third step."""
    return _on_last_rank(job, lambda: os.kill(os.getpid(), signal.SIGSEGV))


@bug(
    "rank-hangs",
    report="pytorch #34149, #69563: which rank hangs, and where each stood, is asked for",
    entry=48,
    on=PROCESSES,
    expects=_fails("hung: no progress for"),
)
def rank_hangs(job: Job) -> Seams:
    """The last rank waits for ever in the third step."""
    return _on_last_rank(job, threading.Event().wait)


@bug(
    "rank-ends-early",
    report="horovod #832: a rank with fewer batches than the others, who wait for it",
    entry=47,
    on=PROCESSES,
    expects=_fails("exited with code 0 ({last})"),
)
def rank_ends_early(job: Job) -> Seams:
    """The last rank is through with its batches after two steps, and its process ends."""
    return _on_last_rank(job, lambda: os._exit(0))


@bug(
    "collective-order",
    report="DeepSpeed #5794: ranks reduce their gradients in different orders",
    entry=46,
    on=("torch-ddp",),
    expects=lambda _site: Expected(step=0, failure="the ranks called different collectives"),
)
def collective_order(job: Job) -> Seams:
    """The last rank reduces its gradients from the first layer on, the others from the last layer on."""

    def average(_step: int, parameters: Opaque) -> None:
        import torch

        gradients = [parameter.grad for parameter in parameters.values()]
        for gradient in gradients if job.rank == job.world_size - 1 else reversed(gradients):
            torch.distributed.all_reduce(gradient)
            gradient.div_(job.world_size)

    # Without the wrapper, which would reduce during backward.
    return Seams(module=lambda _module, model: model, local_gradients=average)
