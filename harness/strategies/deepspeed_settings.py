"""What the strategies of DeepSpeed have in common: its configuration and what it cannot do."""

from __future__ import annotations

from typing import Any

from harness.errors import SpecError
from harness.spec import Job, Workload
from harness.strategies.base import Settings
from harness.strategies.options import Chosen, Option

_UNIVERSAL = (
    "a checkpoint of ZeRO is read by another number of ranks only when it has been made universal, and ds_to_universal "
    "knows Adam's state alone (KeyError: 'exp_avg')"
)
# Of all stages: master weights are float32 whatever the model is, and stage 0 refuses to reduce float64.
UNJUDGED = {
    "adamw+blocks": (
        "it has no float64, and in float32 AdamW makes whole steps of the rounding in gradients that are zero "
        "(attention's key bias)"
    ),
    "batch-norm+uneven-batch": (
        "it has no float64, and in float32 what a batch norm makes of a small last batch is lost in rounding"
    ),
}
# Of the stages that cut anything into pieces.
LIMITS = UNJUDGED | {
    "sgd+resume-resized": _UNIVERSAL,
    "momentum+resume-resized": _UNIVERSAL,
    "nesterov+resume-resized": _UNIVERSAL,
    "routed": (
        "the ranks' buckets hold the gradients that backward has reached, so every rank must use the same parameters; "
        "else gloo aborts (Received data size doesn't match expected size)"
    ),
}
# The same stages. Stage 0 unscales first; they clip the scaled gradients, so that a step is smaller by the scale.
FINDINGS = {
    "clip-norm+fp16": "optimizer state: gradients are clipped while torch_autocast's loss scale is on them: to a "
    "norm 1/scale as large"
}
OPTIONS = {
    "bucket": Option(meaning="reduce_bucket_size: elements that are reduced at once", default=500_000_000),
    "overlap": Option(meaning="overlap_comm: gradients are reduced while backward goes on", default=False),
    "scatter": Option(meaning="reduce_scatter: each rank gets its piece only, rather than everything", default=True),
}
# Buckets that hold less than a layer; everything at once.
VARIANTS: dict[str, tuple[str, ...]] = {"bucket=1000": (), "overlap": (), "bucket=1000+scatter=false": ()}
# The first case would import these lazily.
PRELOAD = (
    "torch._dynamo",
    "harness.loops.torch_comm",
    "harness.loops.torch_loop",
    "harness.loops.torch_deepspeed",
)
_AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}


def check(workload: Workload, world_size: int, chosen: Chosen) -> None:
    """Refuse a bucket that holds nothing."""
    del workload, world_size
    if int(chosen["bucket"]) < 1:
        raise SpecError(f"expected option 'bucket' to be a number of elements >= 1 but got {chosen['bucket']}")


def sharded(*, everyday: tuple[str, ...], timed: bool, limits: dict[str, str] = LIMITS) -> Settings:
    """Return what the declarations of these stages share, with what is a stage's own."""
    return {
        "everyday": everyday,
        "timed": timed,
        "world_sizes": (2, 3, 4),
        "dtypes": ("float32",),
        "gradients": "utils.safe_get_full_grad after engine.backward",
        "options": OPTIONS,
        "variants": VARIANTS,
        "limits": limits,
        "findings": FINDINGS,
        "check": check,
        "markers": ("deepspeed",),
        "repeats": True,
        "preload": PRELOAD,
    }


def configuration(job: Job, stage: int) -> dict[str, Any]:
    """Return DeepSpeed's configuration for a job."""
    workload = job.workload
    zero: dict[str, Any] = {"stage": stage}
    if stage:
        zero["reduce_bucket_size"] = job.options["bucket"]
        zero["overlap_comm"] = job.options["overlap"]
        zero["reduce_scatter"] = job.options["scatter"]
    if stage == 3:
        # By default parameters of fewer than 100,000 elements are not sharded at all.
        zero["stage3_param_persistence_threshold"] = 0
    settings = {
        "train_micro_batch_size_per_gpu": _samples(job),
        "gradient_accumulation_steps": workload.accumulation,
        "gradient_clipping": workload.clip_norm or 0.0,
        "zero_optimization": zero,
        # SGD is one.
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
    }
    if workload.precision != "full":
        settings["torch_autocast"] = {"enabled": True, "dtype": _AUTOCAST[workload.precision]}
    leg, check = job.leg, workload.check
    if leg is not None and leg.load and check.resume_ranks is not None:
        # Without it: "Automatic adjustment of ZeRO's optimizer state partitioning with a new world size is not
        # currently supported". Stage 0 has no pieces.
        settings["checkpoint"] = {"load_universal": stage > 0}
    return settings


def _samples(job: Job) -> int:
    """Return how many samples a rank's full micro-batch has at least; DeepSpeed only counts with it."""
    workload: Workload = job.workload
    batch = workload.check.global_batch if job.purpose == "parity" else workload.global_batch
    return max(1, batch // (job.world_size * workload.accumulation))
