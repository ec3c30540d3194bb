"""DeepSpeed ZeRO stage 1: optimizer state in pieces."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy
from harness.strategies.deepspeed_settings import configuration, sharded


@strategy(
    "deepspeed-zero1",
    framework="torch",
    requires=("torch", "deepspeed"),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    **sharded(everyday=("digits-cnn-accumulated", "digits-mlp-adamw-resized", "digits-mlp-frozen"), timed=False),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Every rank updates its piece of the flattened parameters."""
    from harness.loops.torch_deepspeed import fit

    return fit(job, 1, configuration(job, 1))
