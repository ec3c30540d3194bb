"""Serial training whose batches come from a torch DataLoader: the data path, on as many workers as the world size."""

from __future__ import annotations

import functools

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy


@strategy(
    "loader-workers",
    framework="torch",
    requires=("torch",),
    backends={"cpu": "worker processes", "cuda": "worker processes"},
    reference_of="torch-serial",
    whole=False,
    processes="one",
    groups=lambda _world_size, _options: 1,
    world_sizes=(1, 2, 4, 8),
    timed=False,
    everyday=("digits-mlp", "digits-mlp-adam", "digits-cnn-adamw-clipped", "digits-mnist-cnn", "digits-cnn-resumed"),
    preload=("torch._dynamo", "harness.loops.torch_loader", "harness.loops.torch_loop"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Let every worker make whole micro-batches, sample by sample; a world size of 1 is a loader without workers."""
    from harness.loops.torch_loader import feed
    from harness.loops.torch_loop import Parallelism, fit

    num_workers = job.world_size if job.world_size > 1 else 0
    return fit(job, Parallelism(feed=functools.partial(feed, num_workers=num_workers)))
