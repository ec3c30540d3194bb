"""What a training loop asks of a communication library, and torch.distributed's answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import FileStore

from harness.spec import Job


class Communicator(Protocol):
    """Ranks that train together; a training alone has none."""

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the average of ``value`` over all ranks."""

    def barrier(self) -> None:
        """Wait until every rank is here."""


class ProcessGroup:
    """torch.distributed's default group as a communicator."""

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the average of ``value`` over all ranks."""
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    def barrier(self) -> None:
        """Wait until every rank is here."""
        dist.barrier()


def evaluate_as_rank_0(model: nn.Module) -> None:
    """Give every rank rank 0's buffers whenever the model evaluates, as a saved one would have them."""

    def before_forward(module: nn.Module, _inputs: object) -> None:
        if not module.training:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    model.register_forward_pre_hook(before_forward)


@contextmanager
def process_group(job: Job) -> Iterator[ProcessGroup]:
    """Join the job's ranks into torch.distributed's default group; they meet through a file, so no port is chosen."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # The training that this one follows has left its group.
    if not dist.is_initialized():
        store = FileStore(job.rendezvous, job.world_size)
        dist.init_process_group(job.backend, store=store, rank=job.rank, world_size=job.world_size)
    yield ProcessGroup()
    # Tearing gloo down costs 20 ms, and the process of a rank ends right after its case; NCCL wants it.
    if job.backend != "gloo" and not job.followed:
        dist.destroy_process_group()
