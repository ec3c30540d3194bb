"""Tensor parallelism with torch's parallelize_module: linear layers by columns and rows, attention by heads."""

from __future__ import annotations

from harness.errors import SpecError
from harness.models import base as models
from harness.record import Trace
from harness.spec import Job, Workload
from harness.strategies.base import strategy
from harness.strategies.options import Chosen
from harness.strategies.standalone import GATHERED, Standalone

# Ranks on which the rounding of bfloat16 leaves something to judge.
MOST_IN_BF16 = 2


STANDALONE = Standalone(
    imports="import itertools\nfrom torch.distributed.device_mesh import init_device_mesh\n"
    "from torch.distributed.tensor import Replicate\n"
    "from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module",
    wrap="""names = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
plan = dict(zip(names, itertools.cycle([ColwiseParallel(), RowwiseParallel()])))
if len(names) % 2:  # the last one has no partner
    plan[names[-1]] = ColwiseParallel(output_layouts=Replicate())
module = parallelize_module(model, init_device_mesh("cpu", (ranks,)), plan)
optimizer = OPTIMIZER(model.parameters(), **SETTINGS)""",
    shares=False,
    total="",
    whole=GATHERED,
)


def check(workload: Workload, world_size: int, _chosen: Chosen) -> None:
    """Refuse what heads or GradScaler cannot be shared out over, and what bfloat16 leaves too little of to judge."""
    layers = models.layers(workload)
    whole = any(
        isinstance(layer, models.Conv | models.BatchNorm | models.Block)
        or (isinstance(layer, models.Dense) and layer.out_features < world_size)
        for layer in layers
    )
    if workload.precision == "fp16" and (whole or models.has_tied_weights(layers)):
        raise SpecError(
            f"expected under precision='fp16' a model of untied dense layers but workload {workload.name!r} has "
            "others, which stay whole: GradScaler (torch 2.15) says 'got mixed torch.Tensor and DTensor'; take bf16"
        )
    if workload.precision == "bf16" and world_size > MOST_IN_BF16:
        raise SpecError(
            f"expected at most {MOST_IN_BF16} ranks under precision='bf16' but got {world_size}: sums in more parts "
            "round by as much as the check's training moves, so that nothing could be judged; use fewer ranks"
        )
    for size in (world_size, workload.check.resume_ranks or world_size):
        require_whole_heads(workload, size)


def require_whole_heads(workload: Workload, num_ranks: int) -> None:
    """Raise SpecError where ``num_ranks`` would each get a part of an attention head."""
    for block in models.layers(workload):
        if isinstance(block, models.Block) and block.module == "harness.loops.torch_blocks:encoder_block":
            heads = int(block.settings["heads"])
            if heads % num_ranks:
                raise SpecError(
                    f"expected a number of ranks that divides the {heads} heads of {block.name!r} in workload "
                    f"{workload.name!r} but got {num_ranks}; use as many ranks as divide them, or other model_options"
                )


@strategy(
    "torch-tp",
    framework="torch",
    requires=("torch",),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    whole=False,
    world_sizes=(2, 3, 4),
    timed=False,
    everyday=(
        "digits-cnn-adamw-clipped",
        "digits-cnn-accumulated",
        "digits-mlp-adam",
        "digits-mlp-frozen",
        "digits-tied-mlp",
        "digits-transformer",
        "digits-mlp-resized",
        "digits-mlp-bf16",
        "digits-vit-narrow",
    ),
    groups=lambda _world_size, _options: 1,
    layer_parts=lambda world_size, _options: world_size,
    gradients=".grad after backward, in pieces where the layer is shared out",
    check=check,
    standalone=lambda _chosen: STANDALONE,
    repeats=True,
    preload=(
        "torch._dynamo",
        "harness.loops.torch_comm",
        "harness.loops.torch_loop",
        "harness.loops.torch_tensor_parallel",
    ),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Every rank sees all samples, and computes its part of each linear layer."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh

    from harness.loops import torch_sharding as sharding
    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit
    from harness.loops.torch_tensor_parallel import spread

    def wrap(model: torch.nn.Sequential) -> torch.nn.Module:
        sharding.start_as_rank_0(model)
        return spread(model, init_device_mesh(job.device, (job.world_size,)))

    with process_group(job) as group:
        return fit(
            job,
            Parallelism(
                wrap=wrap,
                comm=group,
                share=(0, 1),
                clip=sharding.clip,
                save=sharding.save,
                load=sharding.load,
                tells_samples=job.rank == 0,
            ),
        )
