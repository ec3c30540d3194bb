"""Horovod for Keras 3 as the training loop sees it: a broadcast, a sum over the ranks, and its own optimizer.

Source: horovod/tensorflow/__init__.py and horovod/_keras/__init__.py of Horovod 0.28.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import horovod.tensorflow.keras as hvd
import tensorflow as tf
from horovod.tensorflow import allreduce, broadcast_variables

from harness.loops import horovod_ranks
from harness.loops.keras_parallelism import Parallelism, Tensors
from harness.spec import Job


@contextmanager
def joined(job: Job) -> Iterator[Parallelism]:
    """Join the job's ranks; the environment that the ``horovod`` launcher prepared says where they meet.

    Raises:
        MissingRequirementError: the job is for GPUs and Horovod was built without NCCL.
    """
    stock = bool(job.options["stock"])
    with horovod_ranks.joined(hvd, job):
        yield Parallelism(
            processes=True,
            broadcast=lambda variables: broadcast_variables(variables, root_rank=0),
            wrap_optimizer=hvd.DistributedOptimizer if stock else lambda optimizer: optimizer,
            reduce=partial(_left_to_the_optimizer if stock else _summed, job),
            barrier=lambda: allreduce(tf.constant(0.0), op=hvd.Sum, name="barrier"),
        )


def _summed(job: Job, values: Tensors) -> Tensors:
    """Return the sums over the ranks, each tensor compressed on its way if that was chosen."""
    compression = hvd.Compression.fp16 if job.options["compression"] == "fp16" else hvd.Compression.none
    return [allreduce(value, op=hvd.Sum, compression=compression) for value in values]


def _left_to_the_optimizer(job: Job, values: Tensors) -> Tensors:
    """Return the loss summed over the ranks, and gradients of the mean over this rank's samples, to be averaged."""
    loss, *gradients = values
    return [allreduce(loss, op=hvd.Sum), *(gradient * job.world_size for gradient in gradients)]
