"""Hybrid sharding with torch's fully_shard: sharded inside a group of ranks, replicated over the groups."""

from __future__ import annotations

import math

from harness.errors import SpecError
from harness.record import Trace
from harness.spec import Job, Workload
from harness.strategies.base import strategy
from harness.strategies.options import Chosen, Option
from harness.strategies.torch_fsdp import FIND_UNUSED, MIXED_UP, UNUSED


def check(workload: Workload, world_size: int, chosen: Chosen) -> None:
    """Refuse a number of ranks that is no multiple of the number of groups."""
    del workload
    groups = int(chosen["replicas"])
    if groups < 1 or world_size % groups:
        raise SpecError(f"expected a multiple of replicas={groups} ranks but got {world_size}; change one of the two")


@strategy(
    "torch-hsdp",
    framework="torch",
    requires=("torch",),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    world_sizes=(2, 4),
    timed=False,
    everyday=("digits-cnn-adamw-clipped", "digits-mnist-cnn", "digits-transformer-sgd"),
    gradients=".grad after backward, in pieces",
    options={
        "replicas": Option(meaning="groups of ranks, of which each holds all parameters", default=2),
        "find-unused": FIND_UNUSED,
    },
    variants={"find-unused": ("digits-routed-mlp",)},
    limits=UNUSED,
    findings=MIXED_UP,
    check=check,
    repeats=True,
    preload=("torch._dynamo", "harness.loops.torch_comm", "harness.loops.torch_loop", "harness.loops.torch_sharding"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Shard every layer over the ranks of a group: the second dimension of a mesh."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh

    from harness.loops import torch_sharding as sharding
    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    # A training that is resumed on other ranks has as many groups as they make.
    replicas = math.gcd(int(job.options["replicas"]), job.world_size)

    def wrap(model: torch.nn.Module) -> torch.nn.Module:
        sharding.start_as_rank_0(model)
        shape = (replicas, job.world_size // replicas)
        mesh = init_device_mesh(job.device, shape, mesh_dim_names=("replicate", "shard"))
        return sharding.shard(model, mesh, find_unused=bool(job.options["find-unused"]))

    with process_group(job) as group:
        return fit(
            job,
            Parallelism(wrap=wrap, comm=group, save=sharding.save, load=sharding.load, tells_statistics=job.rank == 0),
        )
