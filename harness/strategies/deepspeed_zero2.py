"""DeepSpeed ZeRO stage 2: optimizer state and gradients in pieces."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy
from harness.strategies.deepspeed_settings import FINDINGS, LIMITS, OPTIONS, PRELOAD, VARIANTS, check, configuration


@strategy(
    "deepspeed-zero2",
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
    """Gradients are reduced to the rank that updates them, micro-batch after micro-batch."""
    from harness.loops.torch_comm import process_group
    from harness.loops.torch_deepspeed import Engine
    from harness.loops.torch_loop import fit

    engine = Engine(job, 2, configuration(job, 2))
    with process_group(job) as group:
        return fit(job, engine.parallelism(group))
