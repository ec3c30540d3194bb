"""DistributedDataParallel whose gradients are wrong by a chosen share: how small an error an oracle can tell."""

from __future__ import annotations

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy
from harness.strategies.options import Option


@strategy(
    "graded-ddp",
    framework="torch",
    requires=("torch",),
    backends={"cpu": "gloo"},
    reference_of="torch-serial",
    world_sizes=(2,),
    timed=False,
    options={"by": Option(meaning="share of the gradient that is added to it", default=0.0)},
)
def train(job: Job) -> tuple[Trace, ...]:
    """Average gradients as DistributedDataParallel does, then scale them by 1 + ``by``."""
    from torch.nn.parallel import DistributedDataParallel
    from torch.optim import Optimizer

    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    scale = 1.0 + float(job.options["by"])

    def scaled(optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad *= scale

    with process_group(job) as comm:
        return fit(job, Parallelism(wrap=DistributedDataParallel, comm=comm, synchronise=scaled))
