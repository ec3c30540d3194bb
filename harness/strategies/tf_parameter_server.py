"""Asynchronous data parallelism with tf.distribute.ParameterServerStrategy: workers do not wait for each other."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy

ASYNCHRONOUS = "workers update the variables on the server at different times: there is no one value a step"


@strategy(
    "tf-parameter-server",
    framework="tensorflow",
    requires=("tensorflow", "keras"),
    backends={"cpu": "grpc"},
    unsupported={"cuda": "the variables lie on the parameter server's CPU, and workers on GPUs have not been tried"},
    reference_of="keras-serial",
    launcher="tf-parameter-server",
    equality="statistical",
    world_sizes=(2, 3),
    everyday=("digits-mlp",),
    limits={"blocks": "Keras cannot build a model of PyTorch modules"},
    gradients="not shown",
    not_shown={
        "loss": ASYNCHRONOUS,
        "gradients before clipping": ASYNCHRONOUS,
        "gradients after clipping": ASYNCHRONOUS,
        "optimizer state": ASYNCHRONOUS,
        "parameters": ASYNCHRONOUS,
        "buffers": ASYNCHRONOUS,
        "buffers at next forward": ASYNCHRONOUS,
        "predictions": "the coordinator predicts with the variables of the server; workers have none of their own",
    },
    preload=("harness.loops.keras_asynchronous",),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Rank 0 hands out the work and holds the variables; every rank computes gradients and applies them at once."""
    from harness.loops.keras_asynchronous import fit

    return fit(job)
