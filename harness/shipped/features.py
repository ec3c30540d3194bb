"""Features of a training, a few to a workload, small enough to cross every strategy."""

from __future__ import annotations

from harness.shipped.common import ADAMW, DECAYED, SGD
from harness.spec import Check, Optimizer, Schedule, Workload
from harness.workloads import workload


@workload("conformance")
def digits_mlp_adam() -> Workload:
    """Adam, clipping by value, four micro-batches a step, a learning rate that drops every second epoch."""
    return Workload(
        name="digits-mlp-adam",
        model="mlp",
        dataset="digits",
        optimizer=Optimizer(name="adam", learning_rate=1e-3),
        schedule=Schedule(gamma=0.5, every=2),
        clip_value=0.01,
        accumulation=4,
        check=Check(num_samples=55, global_batch=32),
    )


@workload("conformance")
def digits_mlp_frozen() -> Workload:
    """Plain SGD with weight decay, accumulation, augmentation, a step schedule; the first layer is not trained."""
    return Workload(
        name="digits-mlp-frozen",
        model="mlp",
        dataset="digits",
        optimizer=Optimizer(name="sgd", learning_rate=0.1, momentum=0.0, weight_decay=1e-2),
        schedule=Schedule(gamma=0.5, every=2),
        accumulation=2,
        augment="shift",
        frozen=("dense1",),
    )


@workload("conformance")
def digits_mlp_bf16() -> Workload:
    """Forward and backward under bfloat16 autocast: a smoke check."""
    # Few steps, large batches: rounding to half a precision soon makes another training of it.
    check = Check(num_samples=150, global_batch=64, num_steps=5, dtype="float32")
    return Workload(name="digits-mlp-bf16", model="mlp", dataset="digits", optimizer=SGD, precision="bf16", check=check)


@workload("conformance")
def digits_mlp_fp16() -> Workload:
    """Forward and backward under float16 autocast, with a loss scaler: a smoke check."""
    # Few steps, large batches: rounding to half a precision soon makes another training of it.
    check = Check(num_samples=150, global_batch=64, num_steps=5, dtype="float32")
    return Workload(name="digits-mlp-fp16", model="mlp", dataset="digits", optimizer=SGD, precision="fp16", check=check)


@workload("conformance")
def digits_cnn_resumed() -> Workload:
    """AdamW, saved after two steps and resumed in new processes."""
    return Workload(
        name="digits-cnn-resumed",
        model="simple-cnn",
        dataset="digits",
        optimizer=ADAMW,
        schedule=DECAYED,
        check=Check(resume_at=2),
    )


@workload("conformance")
def digits_mlp_adamw_resized() -> Workload:
    """AdamW, saved after two steps and resumed by three ranks."""
    return Workload(
        name="digits-mlp-adamw-resized",
        model="mlp",
        dataset="digits",
        optimizer=ADAMW,
        schedule=DECAYED,
        check=Check(resume_at=2, resume_ranks=3),
    )


@workload("conformance")
def digits_mlp_resized() -> Workload:
    """SGD with momentum, saved after two steps and resumed by three ranks."""
    return Workload(
        name="digits-mlp-resized",
        model="mlp",
        dataset="digits",
        optimizer=SGD,
        schedule=DECAYED,
        check=Check(resume_at=2, resume_ranks=3),
    )


@workload("conformance")
def digits_tied_mlp() -> Workload:
    """Two layers that use one weight and one bias, whose gradients must add up before they are reduced."""
    return Workload(
        name="digits-tied-mlp", model="tied-mlp", dataset="digits", optimizer=SGD, schedule=DECAYED, shape=(1, 8, 8)
    )


@workload("conformance")
def digits_routed_mlp() -> Workload:
    """Parameters that some ranks do not use in a step, and in the fourth step nobody: they must stay as they are."""
    return Workload(
        name="digits-routed-mlp",
        model="routed-mlp",
        dataset="digits",
        optimizer=Optimizer(name="sgd", learning_rate=0.05, momentum=0.9, weight_decay=1e-2),
        schedule=DECAYED,
        shape=(1, 8, 8),
        seed=4,
    )


@workload("conformance")
def digits_batchnorm_even() -> Workload:
    """Batch norm in batches that two, three or four micro-batches divide: pipelines cannot pad what it normalises."""
    return Workload(
        name="digits-batchnorm-even",
        model="mnist-cnn",
        dataset="digits",
        optimizer=SGD,
        schedule=DECAYED,
        dropout=0.25,
        global_batch=48,
        num_samples=960,
        shape=(1, 8, 8),
        check=Check(num_samples=72, global_batch=24),
    )
