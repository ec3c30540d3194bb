"""What the strategies of DeepSpeed have in common: its configuration and what it cannot do."""

from __future__ import annotations

from typing import Any

from harness.spec import Job, Workload

_UNIVERSAL = (
    "a checkpoint of ZeRO is read by another number of ranks only when it has been made universal, and ds_to_universal "
    "knows Adam's state alone (KeyError: 'exp_avg')"
)
# Of the stages that cut anything into pieces.
LIMITS = {
    "sgd+resume-resized": _UNIVERSAL,
    "momentum+resume-resized": _UNIVERSAL,
    "nesterov+resume-resized": _UNIVERSAL,
    "routed": (
        "the ranks' buckets hold the gradients that backward has reached, so every rank must use the same parameters; "
        "else gloo aborts (Received data size doesn't match expected size)"
    ),
}
# The first case would import these lazily.
PRELOAD = (
    "torch._dynamo",
    "harness.loops.torch_comm",
    "harness.loops.torch_loop",
    "harness.loops.torch_deepspeed",
)
_AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}


def configuration(job: Job, stage: int) -> dict[str, Any]:
    """Return DeepSpeed's configuration for a job."""
    workload = job.workload
    zero: dict[str, Any] = {"stage": stage}
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
