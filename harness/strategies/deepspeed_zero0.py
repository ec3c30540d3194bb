"""Data parallelism with DeepSpeed's engine, nothing sharded (ZeRO stage 0)."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy
from harness.strategies.deepspeed_settings import PRELOAD, UNJUDGED, configuration


@strategy(
    "deepspeed-zero0",
    framework="torch",
    requires=("torch", "deepspeed"),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    everyday=("digits-cnn-adamw-clipped", "digits-routed-mlp", "digits-mlp-fp16", "digits-cnn-resumed"),
    timed=False,
    world_sizes=(2, 3, 4),
    dtypes=("float32",),
    gradients=".grad after engine.backward",
    limits=UNJUDGED,
    findings={
        "routed": "optimizer state: a parameter that no rank used in a step gets a gradient of zero for None, so "
        "that momentum moves it "
        "(engine.py, _get_gradients_for_reduction)"
    },
    markers=("deepspeed",),
    repeats=True,
    preload=PRELOAD,
)
def train(job: Job) -> tuple[Trace, ...]:
    """Every rank holds everything; gradients are all-reduced after the last micro-batch."""
    from harness.loops.torch_deepspeed import fit

    return fit(job, 0, configuration(job, 0))
