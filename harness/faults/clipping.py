"""Bugs in clipping complete gradients: by a wrong norm, or on some ranks only."""

from __future__ import annotations

import math

from harness.faults.base import Opaque, Seams, bug
from harness.faults.scope import GRADIENTS, SHARDED, Scope, begins, local, scope_of, shows
from harness.spec import Job

CLIPPED = {"clip_norm": 0.1}
# What torch's clip_grad_norm_ adds to a norm.
EPSILON = 1e-6


def _scaled(job: Job, factor: Opaque) -> Seams:
    """Scale clipped gradients by ``factor(norm before clipping)``."""
    norm = [0.0]

    def measure(_step: int, parameters: Opaque) -> None:
        norm[0] = _norm(parameters)

    def scale(_step: int, parameters: Opaque) -> None:
        for parameter in parameters.values():
            if parameter.grad is not None:
                local(parameter.grad).mul_(factor(norm[0]))

    del job
    return Seams(gradients=measure, clipped=scale)


def _norm(parameters: Opaque) -> float:
    """Return the norm of this rank's own pieces of all gradients."""
    squares = [local(p.grad).square().sum() for p in parameters.values() if p.grad is not None]
    return math.sqrt(float(sum(squares)))


@bug(
    "clip-counts-ranks",
    report="pytorch PR #88955, hyper-parallel #526: squares of one gradient are added up over ranks",
    entry=30,
    on=GRADIENTS,
    expects=shows("gradients after clipping"),
    needs=CLIPPED,
    causes=("clip-wrong-norm",),
)
def clip_counts_ranks(job: Job) -> Seams:
    """Every rank's norm counts, so that gradients are clipped too far."""
    return _scaled(job, lambda _norm: job.world_size**-0.5)


@bug(
    "clip-epsilon-x-world",
    report="pytorch #149768: the epsilon of the norm is added once a rank",
    entry=30,
    on=("torch-ddp", "torch-zero1", "horovod-torch"),
    expects=shows("gradients after clipping"),
    needs=CLIPPED,
    causes=("clip-wrong-norm",),
)
def clip_epsilon_x_world(job: Job) -> Seams:
    """Gradients are clipped by a norm that is too large by millionths."""
    return _scaled(job, lambda norm: (norm + EPSILON) / (norm + job.world_size * EPSILON))


@bug(
    "clip-own-pieces",
    report="torchtitan #766: each rank takes the norm of its own pieces for that of the whole",
    entry=30,
    on=SHARDED,
    expects=shows("gradients after clipping"),
    needs=CLIPPED,
    causes=("clipped-per-rank", "clip-wrong-norm"),
)
def clip_own_pieces(job: Job) -> Seams:
    """Pieces are clipped by their own norm, so that those of different ranks no longer fit."""
    limit = job.workload.clip_norm or 1.0
    kept = _Kept()

    def clip(_step: int, parameters: Opaque) -> None:
        kept.put_back(parameters)
        factor = min(1.0, limit / _norm(parameters))
        for parameter in parameters.values():
            if parameter.grad is not None:
                local(parameter.grad).mul_(factor)

    return Seams(gradients=kept.keep, clipped=clip)


class _Kept:
    """Gradients as they were before they were clipped."""

    def __init__(self, own: Scope | None = None, names: tuple[str, ...] = ()) -> None:
        self._own = own or Scope()
        self._names = names
        self._gradients: dict[str, Opaque] = {}

    def keep(self, step: int, parameters: Opaque) -> None:
        self._gradients = {
            name: local(parameter.grad).clone()
            for name, parameter in parameters.items()
            if parameter.grad is not None and self._own.at(step) and (not self._names or name in self._names)
        }

    def put_back(self, parameters: Opaque) -> None:
        for name, gradient in self._gradients.items():
            local(parameters[name].grad).copy_(gradient)


@bug(
    "clip-skipped",
    report="DeepSpeed PR #1801: some gradients are clipped on the first rank only, and ranks diverge",
    entry=31,
    on=GRADIENTS,
    expects=begins("gradients after clipping", rank=-1),
    needs=CLIPPED,
    partial={"one tensor": {"tensor": "last"}, "one step in ten": {"first": 1, "every": 10}},
    causes=("clip-skipped",),
)
def clip_skipped(job: Job) -> Seams:
    """The last rank's gradients are not clipped."""
    own = scope_of(job, rank=-1)
    kept = _Kept(own, own.names(job.workload))
    if not own.on(job.rank, job.world_size):
        return Seams()
    return Seams(gradients=kept.keep, clipped=lambda _step, parameters: kept.put_back(parameters))
