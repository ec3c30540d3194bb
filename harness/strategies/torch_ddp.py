"""Data parallelism with torch DistributedDataParallel."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy


@strategy(
    "torch-ddp",
    framework="torch",
    requires=("torch",),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    world_sizes=(2, 3, 4),
    preload=("torch._dynamo", "torch.nn.parallel.distributed", "harness.loops.torch_comm", "harness.loops.torch_loop"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Wrap the model; torch averages the gradients while they are computed."""
    from torch.nn.parallel import DistributedDataParallel

    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    with process_group(job) as group:
        return fit(job, Parallelism(wrap=DistributedDataParallel, comm=group))
