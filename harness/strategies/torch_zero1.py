"""DistributedDataParallel whose optimizer state is spread over ranks with torch's ZeroRedundancyOptimizer (ZeRO-1)."""

from __future__ import annotations

import inspect
from typing import Any

from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy
from harness.strategies.options import Option
from harness.strategies.standalone import Standalone

STANDALONE = Standalone(
    imports="from torch.distributed.optim import ZeroRedundancyOptimizer\n"
    "from torch.nn.parallel import DistributedDataParallel",
    wrap="module = DistributedDataParallel(model)\n"
    "optimizer = ZeroRedundancyOptimizer(model.parameters(), OPTIMIZER, **SETTINGS)",
)


@strategy(
    "torch-zero1",
    framework="torch",
    requires=("torch",),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    world_sizes=(1, 2, 3, 4),
    timed=False,
    options={"bucket-view": Option(meaning="parameters are views into the buckets that are broadcast", default=False)},
    variants={"bucket-view": ()},
    limits={
        "routed": "a forward must use every parameter, says torch 2.15: 'Expected to have finished reduction in the "
        "prior iteration before starting a new one'; DistributedDataParallel alone has find-unused"
    },
    repeats=True,
    standalone=lambda _chosen: STANDALONE,
    preload=(
        "torch._dynamo",
        "torch.distributed.optim",
        "torch.nn.parallel.distributed",
        "harness.loops.torch_comm",
        "harness.loops.torch_loop",
    ),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Every rank updates the parameters that it owns, and broadcasts them."""
    import torch
    from torch.distributed.optim import ZeroRedundancyOptimizer
    from torch.nn.parallel import DistributedDataParallel

    from harness.loops import torch_checkpoint
    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    def spread(optimizer: torch.optim.Optimizer, _model: torch.nn.Module) -> torch.optim.Optimizer:
        # A built optimizer's defaults hold more than its class takes: AdamW's "decoupled_weight_decay".
        taken = inspect.signature(type(optimizer)).parameters.keys() & optimizer.defaults.keys()
        return ZeroRedundancyOptimizer(
            optimizer.param_groups[0]["params"],
            optimizer_class=type(optimizer),
            parameters_as_bucket_view=bool(job.options["bucket-view"]),
            **{name: optimizer.defaults[name] for name in taken},
        )

    def save(model: torch.nn.Module, optimizer: Any, *place: Any) -> None:
        optimizer.consolidate_state_dict(to=0)
        torch_checkpoint.save(model, optimizer, *place)

    with process_group(job) as group:
        return fit(
            job,
            Parallelism(
                wrap=DistributedDataParallel,
                comm=group,
                wrap_optimizer=spread,
                state=lambda optimizer: optimizer.optim.state,  # type: ignore[attr-defined]
                save=save,
                parts=("optimizer state",),
            ),
        )
