"""How a strategy departs from serial training: what it hands to the Keras loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from harness.spec import Job

# Tensors, variables and optimizers of TensorFlow, which has no types.
Tensors = Sequence[Any]


def sum_over_replicas(values: Tensors) -> Tensors:
    """Return the sums over the replicas of the tf.distribute strategy that runs this."""
    summed: Tensors = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, list(values))
    return summed


def save(model: Any, optimizer: Any, folder: Path, job: Job) -> None:
    """Write model and optimizer with tf.train.Checkpoint, as custom training loops do."""
    # Every process must take part in reading a distributed variable; what all but the first write is thrown away.
    place = folder / (f"of-rank-{job.rank}" if job.rank else "model")
    tf.train.Checkpoint(model=model, optimizer=optimizer).write(str(place / "checkpoint"))


def load(model: Any, optimizer: Any, folder: Path) -> None:
    """Go on from what ``save`` wrote, on any number of ranks; raise AssertionError if it lacks a variable."""
    status = tf.train.Checkpoint(model=model, optimizer=optimizer).read(str(folder / "model" / "checkpoint"))
    status.assert_existing_objects_matched()


@dataclass(frozen=True, kw_only=True, slots=True)
class Parallelism:
    """How a strategy departs from serial training; the defaults are serial training.

    Attributes:
        distribute: from a device per replica of this process to the tf.distribute.Strategy that trains on them; None
            for one that does not use tf.distribute.
        processes: every rank is a process of its own with one replica; else this process drives all replicas.
        broadcast: (variables) -> None: gives this process rank 0's initial weights. A strategy of tf.distribute does so
            when it creates them.
        wrap_optimizer: hands the optimizer to the library that reduces its gradients.
        reduce: (tensors) -> their sums over all replicas; called in the compiled step.
        barrier: returns when every rank is here.
    """

    distribute: Callable[[tuple[str, ...]], Any] | None = None
    processes: bool = False
    broadcast: Callable[[Tensors], None] = lambda _variables: None
    wrap_optimizer: Callable[[Any], Any] = lambda optimizer: optimizer
    reduce: Callable[[Tensors], Tensors] = sum_over_replicas
    barrier: Callable[[], None] = lambda: None

    def num_replicas(self, job: Job) -> int:
        """Return how many replicas this process drives."""
        return 1 if self.processes else job.world_size


SERIAL = Parallelism()
