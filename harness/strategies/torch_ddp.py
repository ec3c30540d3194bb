"""Data parallelism with torch DistributedDataParallel."""

from __future__ import annotations

from harness.errors import SpecError
from harness.record import Trace
from harness.spec import Job, Workload
from harness.strategies.base import strategy
from harness.strategies.options import Chosen, Option
from harness.strategies.standalone import Standalone

HOOKS = "torch.distributed.algorithms.ddp_comm_hooks"
OPTIONS = {
    "no-sync": Option(
        meaning="reduce after the last micro-batch only, as the documentation advises; else after each", default=True
    ),
    "bucket-mb": Option(meaning="MiB of gradients that are reduced together", default=25.0),
    "gradient-as-bucket-view": Option(meaning="gradients lie in the buckets themselves", default=False),
    "static-graph": Option(meaning="the graph never changes, so that hooks may be fewer", default=False),
    "find-unused": Option(
        meaning="look for parameters that a forward did not use",
        default=False,
        changes={"true": {"limits": {"routed": None}}},
    ),
    "broadcast-buffers": Option(
        meaning="rank 0's running statistics go to every rank before a forward",
        default=True,
        changes={
            "false": {
                "findings": {
                    "batch-norm": "buffers at next forward: every rank keeps the running statistics of its own "
                    "samples and evaluates with them"
                }
            }
        },
    ),
    "sync-batch-norm": Option(
        meaning="batch norms take their statistics from the samples of all ranks",
        default=False,
        changes={
            "true": {
                "batchnorm": "plain",
                "backends": {"cpu": None},
                "unsupported": {"cpu": "SyncBatchNorm layers only work with GPU modules, says torch 2.15"},
            }
        },
    ),
    "hook": Option(
        meaning="how gradients are compressed on their way",
        default="none",
        choices=("none", "fp16", "bf16", "powersgd"),
        changes={name: {"equality": "statistical"} for name in ("fp16", "bf16", "powersgd")},
    ),
    "powersgd-rank": Option(meaning="rank of PowerSGD's approximation, which begins with the second step", default=1),
}


def check(workload: Workload, world_size: int, chosen: Chosen) -> None:
    """Refuse sizes of nothing, and what a static graph cannot do."""
    del world_size
    size, rank = chosen["bucket-mb"], chosen["powersgd-rank"]
    assert isinstance(size, float)
    assert isinstance(rank, int)
    if not size > 0:
        raise SpecError(f"expected buckets above 0 MiB but got bucket-mb={size}")
    if rank < 1:
        raise SpecError(f"expected powersgd-rank of at least 1 but got {rank}")
    if chosen["static-graph"] and chosen["find-unused"]:
        raise SpecError("expected static-graph or find-unused but got both: a static graph finds them by itself, once")
    if chosen["static-graph"] and chosen["no-sync"] and workload.accumulation > 1:
        raise SpecError(
            "expected static-graph without accumulation inside no_sync(), which torch 2.15 ends with an internal "
            "assertion (expect_autograd_hooks_ in reducer.cpp); add no-sync=false"
        )


def standalone(chosen: Chosen) -> Standalone:
    """Wrap the model, with the arguments that the options say."""
    names = {
        "bucket-mb": "bucket_cap_mb",
        "gradient-as-bucket-view": "gradient_as_bucket_view",
        "static-graph": "static_graph",
        "find-unused": "find_unused_parameters",
        "broadcast-buffers": "broadcast_buffers",
    }
    given = [f", {name}={chosen[key]}" for key, name in names.items() if chosen[key] != OPTIONS[key].default]
    imports = ["from torch.nn.parallel import DistributedDataParallel"]
    wrap = [f"module = DistributedDataParallel(model{''.join(given)})"]
    hook = chosen["hook"]
    if hook == "powersgd":
        imports.append(f"from {HOOKS} import powerSGD_hook as hooks")
        size = f"matrix_approximation_rank={chosen['powersgd-rank']}, start_powerSGD_iter=2"
        wrap.append(f"module.register_comm_hook(hooks.PowerSGDState(None, {size}), hooks.powerSGD_hook)")
    elif hook != "none":
        imports.append(f"from {HOOKS} import default_hooks as hooks")
        wrap.append(f"module.register_comm_hook(None, hooks.{hook}_compress_hook)")
    return Standalone(imports="\n".join(imports), wrap="\n".join(wrap))


@strategy(
    "torch-ddp",
    framework="torch",
    requires=("torch",),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    world_sizes=(1, 2, 3, 4),
    options=OPTIONS,
    variants={
        "no-sync=false": ("digits-cnn-accumulated", "digits-mlp-adam"),
        "bucket-mb=0.001": ("digits-mlp", "digits-cnn-adamw-clipped"),
        "gradient-as-bucket-view": ("digits-mlp", "digits-cnn-accumulated"),
        "static-graph": ("digits-mlp", "digits-tied-mlp"),
        "static-graph+no-sync=false": ("digits-cnn-accumulated",),
        "find-unused": ("digits-routed-mlp", "digits-mlp-frozen"),
        "broadcast-buffers=false": ("digits-mlp", "digits-mnist-cnn"),
        "sync-batch-norm": ("digits-mnist-cnn",),
        "hook=fp16": (),
        "hook=bf16": (),
        "hook=powersgd+powersgd-rank=4": (),
    },
    limits={
        "routed": "every rank must use every parameter: one that lacks a gradient goes on to the next collective, "
        "where gloo ends with 'Is there a distributed collective mismatch in your code?', or to the next forward, "
        "where torch 2.15 says 'Expected to have finished reduction in the prior iteration'; choose find-unused"
    },
    check=check,
    standalone=standalone,
    repeats=True,
    preload=("torch._dynamo", "harness.loops.torch_comm", "harness.loops.torch_ddp", "harness.loops.torch_loop"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Wrap the model; torch averages the gradients while they are computed."""
    from contextlib import nullcontext

    from harness.loops import torch_ddp
    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    accumulate = torch_ddp.reduce_last if job.options["no-sync"] else lambda _module, _last: nullcontext()
    with process_group(job) as group:
        return fit(job, Parallelism(wrap=lambda model: torch_ddp.wrap(model, job), comm=group, micro_batch=accumulate))
