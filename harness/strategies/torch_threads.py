"""Data parallelism on CPU threads: DataParallel's algorithm, with its GIL cost, without GPUs."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy


@strategy(
    "torch-threads",
    framework="torch",
    requires=("torch",),
    backends={"cpu": "threads"},
    unsupported={"cuda": "replicas on CPU threads; on GPUs use torch-dp"},
    reference_of="torch-serial",
    processes="one",
    split="chunk",
    world_sizes=(1, 2, 3, 4),
    repeats=True,
    preload=("torch._dynamo", "torch.func"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Run every replica on a thread of its own, each with its share of the cores."""
    from harness.loops.torch_loop import Parallelism, fit
    from harness.loops.torch_replicas import ThreadParallel

    share = max(1, job.num_threads // job.world_size)
    return fit(job, Parallelism(wrap=lambda model: ThreadParallel(model, job.world_size, share)))
