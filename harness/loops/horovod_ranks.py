"""Joining the ranks of a Horovod job, whichever framework's Horovod it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness.errors import MissingRequirementError
from harness.spec import Job


@contextmanager
def joined(hvd: Any, job: Job) -> Iterator[None]:
    """Join the job's ranks with the module ``hvd``; the environment that the ``horovod`` launcher prepared says where.

    Raises:
        MissingRequirementError: the job is for GPUs and Horovod was built without NCCL.
    """
    if job.device == "cuda" and not hvd.nccl_built():
        raise MissingRequirementError(
            "expected Horovod with NCCL but the installed one was built for CPUs; build it again on a machine with a "
            "GPU, NCCL and a CUDA toolkit: python -m harness.horovod_build --gpu=yes --force"
        )
    # The training that this one follows has left its ranks joined: Horovod cannot join them twice.
    if not hvd.is_initialized():
        hvd.init()
    assert (hvd.rank(), hvd.size()) == (job.rank, job.world_size), "the launcher prepares the environment of every rank"
    yield
    # Not when training raised: a peer would see "Horovod has been shut down" instead of a lost connection.
    if not job.followed:
        hvd.shutdown()
