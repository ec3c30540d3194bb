"""The trainings that together ask everything: small ones, each with what the ones before it lack."""

from __future__ import annotations

from harness.spec import Check, Optimizer, Schedule, Workload

_SGD = Optimizer(name="sgd", learning_rate=0.05, momentum=0.9)
_ADAMW = Optimizer(name="adamw", learning_rate=1e-3, weight_decay=0.01)
_DECAYED = Schedule(gamma=0.8)
# Shares of 2, 3 and 4 ranks are of one size, so that averaging means is no mistake yet.
_EVEN = Check(num_samples=72, global_batch=24)
# Its last batch of an epoch, 27 samples, has shares of 14 and 13.
_UNEVEN = Check()


def _training(name: str, optimizer: Optimizer, check: Check, model: str = "mlp", **settings: object) -> Workload:
    fields: dict[str, object] = {"schedule": _DECAYED, "shape": (1, 8, 8), **settings}
    return Workload(name=name, model=model, dataset="digits", optimizer=optimizer, check=check, **fields)  # type: ignore[arg-type]


CONTRACT: tuple[Workload, ...] = (
    _training("sgd", _SGD, _EVEN),
    _training("adamw", _ADAMW, _EVEN),
    _training("uneven-batch", _SGD, _UNEVEN),
    _training("clipped", _ADAMW, _UNEVEN, clip_norm=0.1),
    _training("accumulated", _SGD, _UNEVEN, accumulation=2),
    _training("batch-norm", _SGD, _EVEN, model="mnist-cnn"),
)
