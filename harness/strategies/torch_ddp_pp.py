"""Data and pipeline parallelism together: replicas of a pipeline, each stage averaged by DistributedDataParallel.

rank 0 (stage 0) ──> rank 1 (stage 1)      replica 0: first half of every batch
    ║ DDP               ║ DDP
rank 2 (stage 0) ──> rank 3 (stage 1)      replica 1: second half
"""

from __future__ import annotations

from harness.errors import SpecError
from harness.loops import pipeline_cut
from harness.record import Trace
from harness.spec import Job, Workload
from harness.strategies.base import strategy
from harness.strategies.options import Chosen, Option


def num_stages(world_size: int, chosen: Chosen) -> int:
    """Return the number of ranks of each pipeline."""
    return int(chosen["stages"]) or (world_size if world_size % 2 else 2)


def num_chunks(world_size: int, chosen: Chosen) -> int:
    """Return the number of micro-batches of each pipeline."""
    return int(chosen["chunks"]) or num_stages(world_size, chosen)


def num_pieces(world_size: int, chosen: Chosen) -> int:
    """Return into how many pieces a batch is cut: every replica's share into micro-batches of its pipeline."""
    return max(1, world_size // num_stages(world_size, chosen) * num_chunks(world_size, chosen))


def check(workload: Workload, world_size: int, chosen: Chosen) -> None:
    """Refuse ranks that are no whole number of pipelines, and what cannot be cut into stages or micro-batches."""
    for ranks in {world_size, workload.check.resume_ranks or world_size}:
        stages = num_stages(ranks, chosen)
        if stages < 1 or ranks % stages:
            raise SpecError(f"expected a number of stages that divides the {ranks} ranks but got stages={stages}")
        pipeline_cut.require(workload, stages, str(chosen["balance"]))
        pipeline_cut.require_chunks(num_chunks(ranks, chosen), stages, str(chosen["schedule"]))


@strategy(
    "torch-ddp-pp",
    framework="torch",
    requires=("torch",),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    whole=False,
    world_sizes=(4,),
    timed=False,
    groups=num_pieces,
    gradients=".grad of the rank's own layers after schedule.step(), averaged over the replicas by DDP",
    options={
        "stages": Option(meaning="ranks of each pipeline; 0: two, or all where their number is odd", default=0),
        "schedule": Option(meaning="order of forwards and backwards", default="gpipe", choices=("gpipe", "1f1b")),
        "chunks": Option(meaning="micro-batches of each pipeline; 0: one per stage", default=0),
        "balance": Option(meaning="layers of each stage, as in 3-4; empty: balanced by measured cost", default=""),
    },
    variants={"schedule=1f1b+chunks=4": ("digits-cnn",)},
    everyday=("digits-mlp", "digits-cnn-adamw-clipped", "digits-tied-mlp", "digits-mlp-adam"),
    limits={
        "batch-norm": "the statistics of micro-batches update those of a replica, and DDP broadcasts the first "
        "replica's before every forward: there is no reference that does both",
        "routed": "DDP waits for the gradient of a parameter that a forward did not use (torch 2.15: "
        "the first stage hangs in its backward)",
    },
    check=check,
    repeats=True,
    preload=("harness.loops.torch_pipeline", "harness.loops.torch_comm", "harness.loops.torch_loop"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Put the ranks on a mesh (replica, stage); wrap each stage."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.nn.parallel import DistributedDataParallel

    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import fit
    from harness.loops.torch_pipeline import Pipeline

    chosen, stages = job.options, num_stages(job.world_size, job.options)
    with process_group(job) as comm:
        mesh = init_device_mesh(job.device, (job.world_size // stages, stages), mesh_dim_names=("replica", "stage"))
        replica, stage = divmod(job.rank, stages)

        def averaged(module: torch.nn.Module) -> torch.nn.Module:
            group = mesh.get_group("replica")
            if any(parameter.requires_grad for parameter in module.parameters()):
                return DistributedDataParallel(module, process_group=group)
            # DDP refuses a stage that trains nothing, whose weights must come from the first replica all the same.
            for parameter in module.parameters():
                torch.distributed.broadcast(parameter.detach(), group=group, group_src=0)
            return module

        pipeline = Pipeline(
            job,
            mesh.get_group("stage"),
            schedule=str(chosen["schedule"]),
            chunks=num_chunks(job.world_size, chosen),
            balance=str(chosen["balance"]),
            replicas=mesh.size(0),
            wrap_stage=averaged,
        )
        # Within the first replica nothing broadcasts weights; the others get them from it.
        own = pipeline.parallelism(
            comm, tells_samples=stage == 0, share=(replica, mesh.size(0)), starts_equal=replica == 0
        )
        return fit(job, own)
