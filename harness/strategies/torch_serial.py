"""One PyTorch process that sees every sample: the reference of every PyTorch strategy."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy


@strategy(
    "torch-serial",
    framework="torch",
    requires=("torch",),
    backends={"cpu": "none", "cuda": "none"},
    reference_of=None,
    world_sizes=(1,),
    repeats=True,
    preload=("torch._dynamo", "harness.loops.torch_loop"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Train in one process."""
    from harness.loops.torch_loop import fit

    return fit(job)
