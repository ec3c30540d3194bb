"""Fully sharded data parallelism with torch's fully_shard: parameters, gradients and optimizer state in pieces."""

from __future__ import annotations

from harness.errors import SpecError
from harness.record import Trace
from harness.spec import Job, Workload
from harness.strategies.base import strategy
from harness.strategies.options import Chosen, Option
from harness.strategies.standalone import GATHERED, Standalone

FIND_UNUSED = Option(
    meaning="what no sample of a rank uses takes part with a gradient of zero",
    default=False,
    changes={
        "true": {
            "limits": {"routed": None},
            "findings": {
                "routed": "optimizer state: what no sample of any rank uses gets a gradient of zero (torch 2.15), so "
                "momentum goes on "
                "moving it; serial training and DistributedDataParallel leave it without a gradient, as it was"
            },
        }
    },
)
UNUSED = {
    "routed": "a rank leaves what none of its samples uses out of its reduce-scatter, which gloo ends with 'Received "
    "data size doesn't match expected size' (torch 2.15); choose find-unused"
}
MIXED_UP = {
    "batch-norm+resume": "buffers at next forward: running statistics are each rank's own, and a distributed "
    "checkpoint takes a tensor that all ranks hold from whichever has the least to write (torch 2.15), so that "
    "training goes on from those of several ranks; dedup_save_to_lowest_rank takes rank 0's"
}


def check(workload: Workload, world_size: int, chosen: Chosen) -> None:
    """Refuse ranks that do not pair up."""
    for size in (world_size, workload.check.resume_ranks or world_size):
        if chosen["reshard"] == "pairs" and size % 2:
            raise SpecError(f"expected an even number of ranks with reshard=pairs but got {size}; add or drop one")


def standalone(chosen: Chosen) -> Standalone:
    """Shard every layer, then what is left, and give the pieces to a new optimizer."""
    reshard = {"blocks": "", "never": ", reshard_after_forward=False", "pairs": ", reshard_after_forward=2"}
    arguments = 'mesh=init_device_mesh("cpu", (ranks,))' + reshard[str(chosen["reshard"])]
    needed = "fully_shard"
    if chosen["precision"] == "bf16":
        needed = "MixedPrecisionPolicy, fully_shard"
        arguments += ", mp_policy=MixedPrecisionPolicy(torch.bfloat16, torch.float32)"
    wrap = (
        "for layer in (*model, model):",
        f"    module = fully_shard(layer, {arguments})",
        *(["module.set_reduce_scatter_unused_params(True)"] if chosen["find-unused"] else []),
        "optimizer = OPTIMIZER(model.parameters(), **SETTINGS)",
    )
    return Standalone(
        imports="from torch.distributed.device_mesh import init_device_mesh\n"
        f"from torch.distributed.fsdp import {needed}",
        wrap="\n".join(wrap),
        whole=GATHERED,
    )


@strategy(
    "torch-fsdp",
    framework="torch",
    requires=("torch",),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    world_sizes=(1, 2, 3, 4),
    gradients=".grad after backward, in pieces",
    options={
        "reshard": Option(
            meaning="after its forward a block is freed (blocks), kept (never), or kept by each two ranks (pairs)",
            default="blocks",
            choices=("blocks", "never", "pairs"),
            changes={"pairs": {"world_sizes": (4,)}},
        ),
        "reduce": Option(
            meaning="gradients are reduced after each micro-batch (each), or kept whole until the last one (last)",
            default="each",
            choices=("each", "last"),
        ),
        "precision": Option(
            meaning="bf16 computes in bfloat16 on parameters that stay in full precision",
            default="full",
            choices=("full", "bf16"),
            changes={
                "bf16": {
                    "equality": "statistical",
                    "world_sizes": (2,),
                    "dtypes": ("float32",),
                    "not_shown": {"parameters": "no rank holds them whole, as a statistical judgement wants them"},
                }
            },
        ),
        "find-unused": FIND_UNUSED,
    },
    variants={
        "reshard=never": (),
        "reshard=pairs": (),
        "reduce=last": ("digits-cnn-accumulated", "digits-mlp-adam"),
        "precision=bf16": (),
        "find-unused": ("digits-routed-mlp", "digits-mlp-frozen"),
    },
    limits=UNUSED,
    findings=MIXED_UP,
    check=check,
    standalone=standalone,
    repeats=True,
    preload=("torch._dynamo", "harness.loops.torch_comm", "harness.loops.torch_loop", "harness.loops.torch_sharding"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Shard every layer over all ranks."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh

    from harness.loops import torch_sharding as sharding
    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import SERIAL, Parallelism, fit

    bf16 = job.options["precision"] == "bf16"
    reshard = {"blocks": None, "never": False, "pairs": 2}[str(job.options["reshard"])]

    def wrap(model: torch.nn.Module) -> torch.nn.Module:
        sharding.start_as_rank_0(model)
        mesh = init_device_mesh(job.device, (job.world_size,))
        return sharding.shard(model, mesh, reshard=reshard, bf16=bf16, find_unused=bool(job.options["find-unused"]))

    with process_group(job) as group:
        return fit(
            job,
            Parallelism(
                wrap=wrap,
                comm=group,
                micro_batch=sharding.reduced_at_last if job.options["reduce"] == "last" else SERIAL.micro_batch,
                gradient=sharding.whole_gradient if bf16 else SERIAL.gradient,
                save=sharding.save,
                load=sharding.load,
                tells_statistics=job.rank == 0,
            ),
        )
