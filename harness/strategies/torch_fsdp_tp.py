"""Two dimensions: fully sharded data parallelism over groups of ranks that share out each linear layer."""

from __future__ import annotations

import math

from harness.errors import SpecError
from harness.record import Trace
from harness.spec import Job, Workload
from harness.strategies.base import strategy
from harness.strategies.options import Chosen, Option
from harness.strategies.torch_fsdp import FIND_UNUSED, MIXED_UP, UNUSED
from harness.strategies.torch_tp import require_whole_heads


def num_groups(world_size: int, chosen: Chosen) -> int:
    """Return how many groups of ranks see samples of their own: of ranks to resume on, as many as they make."""
    return world_size // math.gcd(max(1, int(chosen["tp"])), world_size)


def check(workload: Workload, world_size: int, chosen: Chosen) -> None:
    """Refuse a number of ranks that is no multiple of ``tp``, or heads that cannot be shared out evenly."""
    tp = int(chosen["tp"])
    if tp < 1 or world_size % tp:
        raise SpecError(f"expected a multiple of tp={tp} ranks but got {world_size}; change one of the two")
    require_whole_heads(workload, tp)


@strategy(
    "torch-fsdp-tp",
    framework="torch",
    requires=("torch",),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    whole=False,
    world_sizes=(4,),
    timed=False,
    everyday=("digits-cnn-adamw-clipped", "digits-mlp-resized", "digits-transformer"),
    groups=num_groups,
    layer_parts=lambda world_size, chosen: world_size // num_groups(world_size, chosen),
    gradients=".grad after backward, in pieces",
    options={
        "tp": Option(meaning="ranks that share out each linear layer and see the same samples", default=2),
        "find-unused": FIND_UNUSED,
    },
    variants={"find-unused": ("digits-routed-mlp",)},
    limits={
        **UNUSED,
        "fp16": "GradScaler (torch 2.15) tells of an overflow only along the mesh of the first gradient: some ranks "
        "skip the update and others do not",
    },
    findings=MIXED_UP,
    check=check,
    repeats=True,
    preload=(
        "torch._dynamo",
        "harness.loops.torch_comm",
        "harness.loops.torch_loop",
        "harness.loops.torch_tensor_parallel",
    ),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Share out the linear layers over the inner dimension of a mesh, then shard everything over the outer one."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh

    from harness.loops import torch_sharding as sharding
    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit
    from harness.loops.torch_tensor_parallel import spread

    num_shares = num_groups(job.world_size, job.options)
    tp = job.world_size // num_shares

    def wrap(model: torch.nn.Sequential) -> torch.nn.Module:
        sharding.start_as_rank_0(model)
        mesh = init_device_mesh(job.device, (num_shares, tp), mesh_dim_names=("shares", "tp"))
        spread(model, mesh["tp"])
        return sharding.shard(model, mesh["shares"], find_unused=bool(job.options["find-unused"]))

    with process_group(job) as group:
        return fit(
            job,
            Parallelism(
                wrap=wrap,
                comm=group,
                share=(job.rank // tp, num_shares),
                clip=sharding.clip,
                save=sharding.save,
                load=sharding.load,
                tells_samples=job.rank % tp == 0,
                tells_statistics=job.rank < tp,
            ),
        )
