"""Bugs in how gradients travel: divided once more, by a drifting loss scale, or in fewer bits than they have."""

from __future__ import annotations

from harness.faults.base import Opaque, Seams, bug
from harness.faults.scope import GRADIENTS, begins, in_gradients, on_gradients
from harness.spec import Job


@bug(
    "divided-twice",
    report="horovod #2654, lightly #1920: what is an average already is divided by the world size",
    entry=5,
    on=GRADIENTS,
    expects=in_gradients,
    partial={"one tensor": {"tensor": "first"}},
    causes=("divided-twice",),
)
def divided_twice(job: Job) -> Seams:
    """Every gradient is world-size times too small."""
    return on_gradients(job, lambda gradient: gradient.div_(job.world_size))


@bug(
    "loss-scales-drift",
    report="Megatron-Bridge PR #5591: ranks unscale by loss scales of their own, 4 and 8",
    entry=32,
    on=GRADIENTS,
    expects=begins("gradients before clipping", rank=-1, first=1),
    causes=("gradients-scaled",),
)
def loss_scales_drift(job: Job) -> Seams:
    """From the second step on, the last rank's gradients are three quarters of what they should be."""
    return on_gradients(job, lambda gradient: gradient.mul_(0.75), rank=-1, first=1)


def _rounded(dtype: str, gradient: Opaque) -> None:
    import torch

    gradient.copy_(gradient.to(getattr(torch, dtype)))


@bug(
    "reduced-in-float32",
    report="DeepSpeed's communication_data_type, FSDP's reduce_dtype: a precision below that of the parameters",
    entry=3,
    on=GRADIENTS,
    expects=in_gradients,
    partial={"one tensor": {"tensor": "last"}},
    causes=("low-precision-reduction",),
)
def reduced_in_float32(job: Job) -> Seams:
    """Reduced gradients arrive rounded to float32."""
    return on_gradients(job, lambda gradient: _rounded("float32", gradient))


@bug(
    "reduced-in-bfloat16",
    report="torch's bf16_compress_hook: gradients are halved to travel",
    entry=3,
    on=GRADIENTS,
    expects=in_gradients,
    causes=("low-precision-reduction",),
)
def reduced_in_bfloat16(job: Job) -> Seams:
    """Reduced gradients arrive rounded to bfloat16."""
    return on_gradients(job, lambda gradient: _rounded("bfloat16", gradient))
