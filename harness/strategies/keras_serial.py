"""One Keras process that sees every sample: the reference of every TensorFlow strategy."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy
from harness.strategies.keras_limits import LIMITS


@strategy(
    "keras-serial",
    framework="tensorflow",
    requires=("tensorflow", "keras"),
    backends={"cpu": "none", "cuda": "none"},
    reference_of=None,
    world_sizes=(1,),
    limits=LIMITS,
    preload=("harness.loops.keras_loop",),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Train in one process."""
    from harness.loops import keras_loop

    return keras_loop.fit(job)
