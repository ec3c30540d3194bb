"""Data parallelism with torch.nn.DataParallel: one process, one thread a GPU."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy


@strategy(
    "torch-dp",
    framework="torch",
    requires=("torch",),
    backends={"cuda": "threads"},
    unsupported={"cpu": "nn.DataParallel needs CUDA devices; torch-threads is the same algorithm on CPU threads"},
    reference_of="torch-serial",
    processes="one",
    split="chunk",
    world_sizes=(2, 4, 8),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Wrap the model; each forward scatters the batch and replicates the parameters."""
    from torch.nn import DataParallel

    from harness.loops.torch_loop import Parallelism, fit

    devices = list(range(job.world_size))
    return fit(job, Parallelism(wrap=lambda model: DataParallel(model, device_ids=devices)))
