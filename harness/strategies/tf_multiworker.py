"""Data parallelism with tf.distribute.MultiWorkerMirroredStrategy: a process per rank, joined by TF_CONFIG."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy
from harness.strategies.keras_limits import LIMITS


@strategy(
    "tf-multiworker",
    framework="tensorflow",
    requires=("tensorflow", "keras"),
    backends={"cpu": "ring", "cuda": "nccl"},
    reference_of="keras-serial",
    launcher="tf-config",
    world_sizes=(2, 3, 4),
    timed=False,
    slow=True,
    everyday=("digits-mlp", "digits-cnn-resumed"),
    gradients="summed by all_reduce in the replica context",
    not_shown={
        "buffers at next forward": "Keras 3 leaves every replica the running statistics of its own samples",
        "predictions": "a replica predicts with running statistics of its own; replica 0's are the model's",
    },
    limits=LIMITS,
    preload=("harness.loops.keras_loop", "harness.loops.keras_multiworker"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Mirror the variables over the processes; TensorFlow sums the gradients with collectives over gRPC."""
    from harness.loops import keras_loop, keras_multiworker

    return keras_loop.fit(job, keras_multiworker.joined())
