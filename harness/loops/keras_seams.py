"""Where a fault strikes a Keras training: numbers by hand, and gradients from inside the compiled step.

    tf.function:  gradients of a replica -> numpy -> the fault changes them -> tensors

Faults are written for PyTorch's names: ``.grad`` of a parameter, ``param_groups`` and ``state`` of an optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import tensorflow as tf

from harness.errors import SpecError
from harness.faults.base import Seams, seams_of
from harness.loops.keras_model import canonical, in_keras_order
from harness.spec import Job

OFFERED = (
    "samples",
    "batch",
    "loss_scale",
    "weights",
    "optimizer",
    "loaded",
    "begin",
    "local_gradients",
    "gradients",
    "clipped",
    "before_update",
    "held_out",
)


def of_replica(job: Job, rank: int) -> Seams:
    """Return where the job's fault strikes one replica.

    Raises:
        SpecError: it strikes where a compiled step has no seam; saying nothing would count as a bug not caught.
    """
    seams, harmless = seams_of(msgspec.structs.replace(job, rank=rank)), Seams()
    beyond = [
        name for name in Seams.__slots__ if name not in OFFERED and getattr(seams, name) != getattr(harmless, name)
    ]
    if job.fault is not None and beyond:
        raise SpecError(
            f"expected a fault that strikes {' or '.join(OFFERED)} but {job.fault.name!r} strikes {', '.join(beyond)}, "
            "which the compiled Keras step does not offer; inject it into a PyTorch strategy"
        )
    return seams


class Dials:
    """A Keras optimizer as a fault sees it: ``param_groups`` and ``state.clear()``; it is set when ``turn`` ends."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self.state = self

    @property
    def param_groups(self) -> list[dict[str, float]]:
        """The settings, which a fault may change."""
        return [self._group]

    def clear(self) -> None:
        """Forget all moments, and how many updates there were."""
        for variable in self._optimizer.variables:
            if variable is not self._optimizer.learning_rate:
                variable.assign(tf.zeros(variable.shape, variable.dtype))

    def turn(self, strike: Callable[[Any], None]) -> None:
        """Let ``strike(optimizer)`` change the settings, and take over what it has changed."""
        optimizer = self._optimizer
        before = {"lr": float(optimizer.learning_rate.numpy()), "weight_decay": optimizer.decay}
        self._group = dict(before)
        strike(self)
        if self._group["lr"] != before["lr"]:
            optimizer.learning_rate.assign(self._group["lr"])
        optimizer.decay = self._group["weight_decay"]


class Striker:
    """Changes what the replicas of a process compute, as their seams say."""

    def __init__(self, seams: Sequence[Seams], trained: Sequence[str]) -> None:
        self._seams, self._trained = tuple(seams), tuple(trained)
        self._step = 0

    def begin(self, step: int) -> None:
        """Begin the step of this number."""
        self._step = step
        for own in self._seams:
            own.begin(step)

    def change(self, seam: str, gradients: Sequence[Any]) -> Sequence[Any]:
        """Return gradients (of all trained parameters) as they are after the fault; called while a step is traced."""
        if all(getattr(own, seam) == getattr(Seams(), seam) for own in self._seams):
            return gradients
        context = tf.distribute.get_replica_context()
        replica = tf.convert_to_tensor(context.replica_id_in_sync_group) % len(self._seams)

        def strike(replica: Any, *values: Any) -> list[Any]:
            held = {
                name: SimpleNamespace(grad=np.array(canonical(value), order="C"))
                for name, value in zip(self._trained, values, strict=True)
            }
            getattr(self._seams[replica], seam)(self._step, held)
            return [np.ascontiguousarray(in_keras_order(parameter.grad)) for parameter in held.values()]

        changed = tf.numpy_function(strike, [replica, *gradients], [gradient.dtype for gradient in gradients])
        return [tf.ensure_shape(new, old.shape) for new, old in zip(changed, gradients, strict=True)]

    def change_weights(self, variables: Mapping[str, Any], local: Any) -> None:
        """Let the faults change each replica's copies of ``variables``, which ``local`` tells apart."""
        for replica, own in enumerate(self._seams):
            if own.weights == Seams().weights:
                continue
            copies = {name: local(variable.value)[replica] for name, variable in variables.items()}
            values = {name: np.array(canonical(copy), order="C") for name, copy in copies.items()}
            own.weights(values)
            for name, copy in copies.items():
                copy.assign(in_keras_order(values[name]))
