"""DeepSpeed ZeRO stage 3: optimizer state, gradients and parameters in pieces."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy
from harness.strategies.deepspeed_settings import LIMITS, configuration, sharded

_TWICE = (
    "it has no float64, and its own linear layers (runtime/zero/linear.py) round tokens once more before the bias is "
    "added: half a digit of a low precision, which no other order of samples shows"
)


@strategy(
    "deepspeed-zero3",
    framework="torch",
    requires=("torch", "deepspeed"),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    **sharded(
        everyday=("digits-cnn-accumulated", "digits-resnet18-narrow", "digits-cnn-resumed", "digits-transformer-sgd"),
        timed=False,
        limits=LIMITS | {"blocks+bf16": _TWICE, "blocks+fp16": _TWICE},
    ),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Parameters are gathered for the forward and backward of their layer."""
    from harness.loops.torch_deepspeed import fit

    return fit(job, 3, configuration(job, 3))
