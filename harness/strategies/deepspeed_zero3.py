"""DeepSpeed ZeRO stage 3: optimizer state, gradients and parameters in pieces."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy
from harness.strategies.deepspeed_settings import FINDINGS, LIMITS, OPTIONS, PRELOAD, VARIANTS, check, configuration


@strategy(
    "deepspeed-zero3",
    framework="torch",
    requires=("torch", "deepspeed"),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    world_sizes=(2, 3, 4),
    dtypes=("float32",),
    gradients="utils.safe_get_full_grad after engine.backward",
    markers=("deepspeed",),
    options=OPTIONS,
    variants=VARIANTS,
    check=check,
    limits=LIMITS,
    findings=FINDINGS,
    preload=PRELOAD,
)
def train(job: Job) -> tuple[Trace, ...]:
    """Parameters are gathered for the forward and backward of their layer."""
    from harness.loops.torch_comm import process_group
    from harness.loops.torch_deepspeed import Engine
    from harness.loops.torch_loop import fit

    engine = Engine(job, 3, configuration(job, 3))
    with process_group(job) as group:
        return fit(job, engine.parallelism(group))
