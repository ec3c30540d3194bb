"""Bugs in how the held-out samples are shared out."""

from __future__ import annotations

from harness.faults.base import Seams, bug
from harness.spec import Job


@bug("padded-evaluation", report="pytorch #25162: DistributedSampler repeats samples so that all shares are alike")
def padded_evaluation(job: Job) -> Seams:
    """Shares that are smaller than others are filled up with a neighbour's samples, which then count twice."""

    def filled(own: slice, num_samples: int) -> slice:
        size = -(-num_samples // job.world_size)
        return slice(max(0, own.stop - size), own.stop)

    return Seams(held_out=filled)
