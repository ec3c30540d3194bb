"""Data parallelism with Horovod's DistributedOptimizer for PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from harness.errors import MissingRequirementError
from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy

# Modules, tensors and optimizers: their types need the framework.
Opaque = Any


@strategy(
    "horovod-torch",
    framework="torch",
    requires=("torch", "horovod"),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    launcher="horovod",
    world_sizes=(2, 3, 4),
    markers=("horovod",),
    not_shown={"buffers at next forward": "Horovod leaves every rank the running statistics of its own samples"},
    preload=("torch._dynamo", "horovod.torch"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Horovod averages each gradient as soon as backward has computed it."""
    from harness.loops.torch_loop import Parallelism, fit

    with joined(job) as ranks:
        traces = fit(
            job,
            Parallelism(
                wrap=starting_as_rank_zero,
                comm=ranks,
                wrap_optimizer=lambda optimizer, model: reducing(job, optimizer, model),
                synchronise=synchronise,
                update=update,
            ),
        )
    return tuple(without_own_statistics(trace) for trace in traces)


class Ranks:
    """Horovod's global process set as the loop's communicator."""

    def mean(self, value: Opaque) -> Opaque:
        """Return the average of ``value`` over all ranks."""
        import horovod.torch as hvd

        return hvd.allreduce(value.detach(), op=hvd.Average)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        import horovod.torch as hvd

        hvd.barrier()


@contextmanager
def joined(job: Job) -> Iterator[Ranks]:
    """Join the job's ranks; the environment that the ``horovod`` launcher prepared says where they meet.

    Raises:
        MissingRequirementError: the job is for GPUs and Horovod was built without NCCL.
    """
    import horovod.torch as hvd

    if job.device == "cuda" and not hvd.nccl_built():
        raise MissingRequirementError(
            "expected Horovod with NCCL but the installed one was built for CPUs; build it again on a machine with a "
            "GPU, NCCL and a CUDA toolkit: python -m harness.horovod_build --gpu=yes --force"
        )
    hvd.init()
    assert (hvd.rank(), hvd.size()) == (job.rank, job.world_size), "the launcher prepares the environment of every rank"
    yield Ranks()
    # Not when training raised: a peer would see "Horovod has been shut down" instead of a lost connection.
    hvd.shutdown()


def starting_as_rank_zero(model: Opaque) -> Opaque:
    """Give every rank rank 0's weights now, and rank 0's buffers whenever the model evaluates, as a saved one would."""
    import horovod.torch as hvd

    def before_forward(module: Opaque, _inputs: object) -> None:
        if not module.training:
            hvd.broadcast_parameters(dict(module.named_buffers()), root_rank=0)

    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    model.register_forward_pre_hook(before_forward)
    return model


def reducing(job: Job, optimizer: Opaque, model: Opaque) -> Opaque:
    """Return the optimizer that all-reduces each gradient after the last micro-batch's backward has reached it."""
    import horovod.torch as hvd

    return hvd.DistributedOptimizer(
        optimizer,
        named_parameters=model.named_parameters(),
        op=hvd.Average,
        backward_passes_per_step=job.workload.accumulation,
    )


def synchronise(optimizer: Opaque) -> None:
    """Wait for the averaged gradients."""
    optimizer.synchronize()


def update(optimizer: Opaque) -> None:
    """Apply the gradients, which have been averaged (and clipped) already."""
    with optimizer.skip_synchronize():
        optimizer.step()


def without_own_statistics(trace: Trace) -> Trace:
    """Return the trace without the running statistics that only this rank has; rank 0's are the model's."""
    if trace.rank == 0:
        return trace
    rungs = {rung: file for rung, file in trace.rungs.items() if rung != "buffers at next forward"}
    return msgspec.structs.replace(trace, rungs=rungs)
