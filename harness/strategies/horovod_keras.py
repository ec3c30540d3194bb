"""Data parallelism with Horovod under Keras 3: the loop's gradients are summed by Horovod before the optimizer.

Stock Horovod 0.28.1 wraps a Keras optimizer by overriding methods that Keras 3 no longer calls, so that ranks train
apart without any error; the option ``stock`` keeps that in sight.
"""

from __future__ import annotations

import msgspec

from harness.errors import SpecError
from harness.record import Trace
from harness.spec import Job, Workload
from harness.strategies import horovod_built
from harness.strategies.base import strategy
from harness.strategies.keras_limits import LIMITS
from harness.strategies.options import Chosen, Option

APART = (
    "optimizer state: hvd.DistributedOptimizer of stock Horovod 0.28.1 overrides _compute_gradients and "
    "_aggregate_gradients, which "
    "Keras 3 does not call: ranks train apart, silently"
)


def refuse(_workload: Workload, _world_size: int, chosen: Chosen) -> None:
    """Raise SpecError for a compression that nothing would do."""
    if chosen["stock"] and chosen["compression"] != "none":
        raise SpecError(
            f"expected no compression with stock, whose optimizer sends nothing, but got {chosen['compression']!r}; "
            "leave one of them out"
        )


@strategy(
    "horovod-keras",
    framework="tensorflow",
    requires=("tensorflow", "keras", "horovod"),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="keras-serial",
    launcher="horovod",
    world_sizes=(2, 3, 4),
    timed=False,
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
                    "findings": {"*": APART},
                    "not_shown": dict.fromkeys(
                        ("gradients before clipping", "gradients after clipping"),
                        "the optimizer would average them inside",
                    ),
                }
            },
        ),
    },
    variants={"compression=fp16": (), "stock": ()},
    slow=True,
    everyday=("digits-mlp", "digits-mlp-adam", "digits-mlp-frozen", "digits-mlp-resized"),
    check=refuse,
    lacks=lambda: horovod_built.misfit("tensorflow"),
    limits=LIMITS,
    repeats=True,
    preload=("harness.loops.keras_horovod", "harness.loops.keras_loop"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Horovod broadcasts rank 0's weights and sums every rank's gradients."""
    from harness.loops import keras_horovod, keras_loop

    with keras_horovod.joined(job) as parallelism:
        traces = keras_loop.fit(job, parallelism)
    return tuple(map(without_gradients, traces)) if job.options["stock"] else traces


def without_gradients(trace: Trace) -> Trace:
    """Return the trace without the gradients, which are this rank's own where the optimizer is to average them."""
    rungs = {rung: file for rung, file in trace.rungs.items() if not rung.startswith("gradients")}
    return msgspec.structs.replace(trace, rungs=rungs)
