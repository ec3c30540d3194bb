"""Data parallelism with tf.distribute.MirroredStrategy: one process, a replica per GPU or logical CPU device."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy
from harness.strategies.keras_limits import LIMITS


@strategy(
    "tf-mirrored",
    framework="tensorflow",
    requires=("tensorflow", "keras"),
    backends={"cpu": "ring", "cuda": "nccl"},
    reference_of="keras-serial",
    processes="one",
    world_sizes=(2, 3, 4),
    slow=True,
    everyday=("digits-mlp", "digits-mnist-cnn", "digits-cnn-adamw-clipped"),
    gradients="summed by all_reduce in the replica context",
    not_shown={
        "buffers at next forward": "Keras 3 leaves every replica the running statistics of its own samples",
        "predictions": "a replica predicts with running statistics of its own; replica 0's are the model's",
    },
    limits=LIMITS,
    preload=("harness.loops.keras_loop",),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Mirror the variables; TensorFlow sums the gradients over the replicas."""
    import tensorflow as tf

    from harness.loops import keras_loop

    return keras_loop.fit(job, keras_loop.Parallelism(distribute=tf.distribute.MirroredStrategy))
