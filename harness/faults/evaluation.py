"""Bugs in how the held-out samples are shared out."""

from __future__ import annotations

from harness.faults.base import Expected, Seams, Site, bug
from harness.faults.scope import DEEPSPEED, KERAS, REPLICAS, SHARDED
from harness.spec import Job


def _after_training(site: Site) -> Expected:
    return Expected(rungs=("predictions",), step=site.workload.check.num_steps - 1)


def _even(site: Site) -> str | None:
    return None if site.workload.check.num_held_out % site.world_size else "all shares are of one size"


@bug(
    "padded-evaluation",
    report="pytorch #25162: DistributedSampler repeats samples so that all shares are alike",
    entry=44,
    on=(*REPLICAS, *SHARDED, *DEEPSPEED, *KERAS),
    expects=_after_training,
    harmless=_even,
    causes=("padded-evaluation",),
)
def padded_evaluation(job: Job) -> Seams:
    """Shares that are smaller than others are filled up with a neighbour's samples, which then count twice."""

    def filled(own: slice, num_samples: int) -> slice:
        size = -(-num_samples // job.world_size)
        return slice(max(0, own.stop - size), own.stop)

    return Seams(held_out=filled)
