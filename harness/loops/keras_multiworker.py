"""MultiWorkerMirroredStrategy as the training loop uses it: one worker a process, patient with each other.

Source: tensorflow/python/distribute/collective_all_reduce_strategy.py of TensorFlow 2.21.
"""

from __future__ import annotations

import json
import os

import tensorflow as tf
from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
from tensorflow.python.eager import context

from harness.loops.keras_parallelism import Parallelism

# The supervisor's own deadline ends a hang much earlier. TensorFlow's short one would fail workers that it had stopped
# while something else was timed: the clock goes on.
HEARTBEAT_TIMEOUT_MS = 900_000


def joined() -> Parallelism:
    """Return the parallelism of the workers in TF_CONFIG; they wait for each other when the strategy is made."""
    return Parallelism(distribute=_distribute, processes=True)


def _distribute(_devices: tuple[str, ...]) -> tf.distribute.Strategy:
    workers = coordination_config_pb2.CoordinatedJob(
        name="worker", num_tasks=len(json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"])
    )
    # As the strategy does where nobody has done so before, but for the time; there is no public way to say that.
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        heartbeat_timeout_in_ms=HEARTBEAT_TIMEOUT_MS,
        coordinated_jobs=[workers],
    )
    return tf.distribute.MultiWorkerMirroredStrategy()
