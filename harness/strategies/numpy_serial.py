"""One numpy process that sees every sample: an independent referee of the frameworks, slow and plain."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy

_PRECISION = "the referee computes in float64"


@strategy(
    "numpy-serial",
    framework="numpy",
    requires=("numpy",),
    backends={"cpu": "none"},
    unsupported={"cuda": "numpy computes on the CPU"},
    reference_of=None,
    world_sizes=(1,),
    dtypes=("float64",),
    limits={
        "blocks": "PyTorch modules have no definition in numpy",
        "routed": "only models of PyTorch modules choose the parameters that a sample uses",
        "bf16": _PRECISION,
        "fp16": _PRECISION,
    },
    repeats=True,
    gradients="as the definitions give them",
    preload=("harness.referee.training",),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Train in one process."""
    from harness.referee.training import fit

    return fit(job)
