"""Hybrid sharding with torch's fully_shard: sharded inside a group of ranks, replicated over the groups."""

from __future__ import annotations

from harness.errors import SpecError
from harness.record import Trace
from harness.spec import Job, Workload
from harness.strategies.base import strategy
from harness.strategies.options import Chosen, Option


def check(workload: Workload, world_size: int, chosen: Chosen) -> None:
    """Refuse a number of ranks that is no multiple of the number of groups."""
    groups = int(chosen["replicas"])
    for size in (world_size, workload.check.resume_ranks or world_size):
        if groups < 1 or size % groups:
            raise SpecError(f"expected a multiple of replicas={groups} ranks but got {size}; choose another of the two")


@strategy(
    "torch-hsdp",
    framework="torch",
    requires=("torch",),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    world_sizes=(2, 4),
    gradients=".grad after backward, in pieces",
    options={"replicas": Option(meaning="groups of ranks, of which each holds all parameters", default=2)},
    check=check,
    preload=("torch._dynamo", "harness.loops.torch_comm", "harness.loops.torch_loop", "harness.loops.torch_sharding"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Shard every layer over the ranks of a group: the second dimension of a mesh."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh

    from harness.loops import torch_sharding as sharding
    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    replicas = int(job.options["replicas"])

    def wrap(model: torch.nn.Module) -> torch.nn.Module:
        sharding.start_as_rank_0(model)
        shape = (replicas, job.world_size // replicas)
        return sharding.shard(model, init_device_mesh(job.device, shape, mesh_dim_names=("replicate", "shard")))

    with process_group(job) as group:
        return fit(
            job,
            Parallelism(
                wrap=wrap, comm=group, save=sharding.save, load=sharding.load, tells_statistics=job.rank == 0
            ),
        )
