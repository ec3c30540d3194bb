"""Horovod for PyTorch as a training loop sees it: a communicator, a wrapper and an optimizer.

Source: horovod/torch/optimizer.py of Horovod 0.28.1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import horovod.torch as hvd
import torch
from torch import nn

from harness.loops import horovod_ranks
from harness.spec import Job

MIB = 2**20


class Ranks:
    """Horovod's global process set as the loop's communicator."""

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the average of ``value`` over all ranks."""
        average: torch.Tensor = hvd.allreduce(value.detach(), op=hvd.Average)
        return average

    def barrier(self) -> None:
        """Wait until every rank is here."""
        hvd.barrier()


@contextmanager
def joined(job: Job) -> Iterator[Ranks]:
    """Join the job's ranks; the environment that the ``horovod`` launcher prepared says where they meet.

    Raises:
        MissingRequirementError: the job is for GPUs and Horovod was built without NCCL.
    """
    # Horovod reads it when it starts.
    os.environ["HOROVOD_FUSION_THRESHOLD"] = str(round(float(job.options["fusion-mb"]) * MIB))
    with horovod_ranks.joined(hvd, job):
        yield Ranks()


def starting_as_rank_zero(model: nn.Module) -> nn.Module:
    """Give every rank rank 0's weights now, and rank 0's buffers whenever the model evaluates, as a saved one would."""

    def before_forward(module: nn.Module, _inputs: object) -> None:
        if not module.training:
            hvd.broadcast_parameters(dict(module.named_buffers()), root_rank=0)

    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    model.register_forward_pre_hook(before_forward)
    return model


def reducing(job: Job, optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer that all-reduces each gradient after the last micro-batch's backward has reached it."""
    reduced: torch.optim.Optimizer = hvd.DistributedOptimizer(
        optimizer,
        named_parameters=model.named_parameters(),
        op=hvd.Average,
        backward_passes_per_step=job.workload.accumulation,
        compression=hvd.Compression.fp16 if job.options["compression"] == "fp16" else hvd.Compression.none,
        groups=int(job.options["groups"]) or None,
    )
    return reduced


def synchronise(optimizer: torch.optim.Optimizer) -> None:
    """Wait for the averaged gradients."""
    optimizer.synchronize()  # type: ignore[attr-defined]


def update(optimizer: torch.optim.Optimizer) -> None:
    """Apply the gradients, which have been averaged (and clipped) already."""
    with optimizer.skip_synchronize():  # type: ignore[attr-defined]
        optimizer.step()
