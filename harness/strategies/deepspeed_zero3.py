"""DeepSpeed ZeRO stage 3: optimizer state, gradients and parameters in pieces."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy
from harness.strategies.deepspeed_settings import configuration, sharded


@strategy(
    "deepspeed-zero3",
    framework="torch",
    requires=("torch", "deepspeed"),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    **sharded(
        everyday=("digits-cnn-accumulated", "digits-resnet18-narrow", "digits-cnn-resumed", "digits-transformer-sgd"),
        timed=False,
    ),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Parameters are gathered for the forward and backward of their layer."""
    from harness.loops.torch_deepspeed import fit

    return fit(job, 3, configuration(job, 3))
