"""Data parallelism with Horovod under Keras 3: the loop's gradients are summed by Horovod before the optimizer.

Stock Horovod 0.28.1 wraps a Keras optimizer by overriding methods that Keras 3 no longer calls, so that ranks train
apart without any error; the option ``stock`` keeps that in sight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from harness.errors import MissingRequirementError
from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy
from harness.strategies.options import Option

# Tensors, variables and optimizers: their types need the framework.
Opaque = Any

APART = (
    "hvd.DistributedOptimizer of stock Horovod 0.28.1 overrides _compute_gradients and _aggregate_gradients, which "
    "Keras 3 does not call: ranks train apart, silently"
)


@strategy(
    "horovod-keras",
    framework="tensorflow",
    requires=("tensorflow", "keras", "horovod"),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="keras-serial",
    launcher="horovod",
    world_sizes=(2, 3, 4),
    markers=("horovod",),
    gradients="summed by hvd.allreduce",
    not_shown={
        "buffers at next forward": "Horovod leaves every rank the running statistics of its own samples",
        "predictions": "a rank predicts with running statistics of its own; rank 0's are the model's",
    },
    options={
        "compression": Option(
            meaning="how gradients travel",
            default="none",
            choices=("none", "fp16"),
            changes={"fp16": {"equality": "statistical"}},
        ),
        "stock": Option(
            meaning="leave the gradients to Horovod's own hvd.DistributedOptimizer, which does not work under Keras 3",
            default=False,
            changes={
                "true": {
                    "findings": dict.fromkeys(("sgd", "momentum", "nesterov", "adam", "adamw"), APART),
                    "not_shown": dict.fromkeys(
                        ("gradients before clipping", "gradients after clipping"),
                        "the optimizer would average them inside",
                    ),
                }
            },
        ),
    },
    variants={"compression=fp16": (), "stock": ()},
    limits={"blocks": "Keras cannot build a model of PyTorch modules"},
    preload=("harness.loops.keras_loop", "horovod.tensorflow.keras"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Horovod broadcasts rank 0's weights and sums every rank's gradients."""
    import horovod.tensorflow.keras as hvd
    import tensorflow as tf
    from horovod.tensorflow import allreduce, broadcast_variables

    from harness.loops.keras_loop import Parallelism, fit

    if job.device == "cuda" and not hvd.nccl_built():
        raise MissingRequirementError(
            "expected Horovod with NCCL but the installed one was built for CPUs; build it again on a machine with a "
            "GPU, NCCL and a CUDA toolkit: python -m harness.horovod_build --gpu=yes --force"
        )
    stock = bool(job.options["stock"])
    compression = hvd.Compression.fp16 if job.options["compression"] == "fp16" else hvd.Compression.none

    def reduce(values: Sequence[Opaque]) -> Sequence[Opaque]:
        first, *rest = values
        if stock and rest:
            # The optimizer is to average what ranks hand it: gradients of a mean over their own samples.
            return [allreduce(first, op=hvd.Sum), *(value * job.world_size for value in rest)]
        return [allreduce(value, op=hvd.Sum, compression=compression) for value in values]

    hvd.init()
    traces = fit(
        job,
        Parallelism(
            processes=True,
            broadcast=lambda variables: broadcast_variables(variables, root_rank=0),
            wrap_optimizer=hvd.DistributedOptimizer if stock else lambda optimizer: optimizer,
            reduce=reduce,
            barrier=lambda: allreduce(tf.constant(0.0), op=hvd.Sum, name="barrier"),
        ),
    )
    # Not when training raised: a peer would see "Horovod has been shut down" instead of a lost connection.
    hvd.shutdown()
    return tuple(map(without_gradients, traces)) if stock else traces


def without_gradients(trace: Trace) -> Trace:
    """Return the trace without the gradients, which are this rank's own where the optimizer is to average them."""
    rungs = {rung: file for rung, file in trace.rungs.items() if not rung.startswith("gradients")}
    return msgspec.structs.replace(trace, rungs=rungs)
