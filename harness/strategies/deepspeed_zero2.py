"""DeepSpeed ZeRO stage 2: optimizer state and gradients in pieces."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy
from harness.strategies.deepspeed_settings import configuration, sharded


@strategy(
    "deepspeed-zero2",
    framework="torch",
    requires=("torch", "deepspeed"),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    **sharded(everyday=("digits-cnn", "digits-cnn-adamw-clipped", "digits-mlp-bf16", "digits-tied-mlp"), timed=True),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Gradients are reduced to the rank that updates them, micro-batch after micro-batch."""
    from harness.loops.torch_deepspeed import fit

    return fit(job, 2, configuration(job, 2))
