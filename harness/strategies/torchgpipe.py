"""Pipeline parallelism with torchgpipe: consecutive layers on W devices of one process, micro-batches in between."""

from __future__ import annotations

from harness import plan
from harness.errors import SpecError
from harness.loops import pipeline_cut
from harness.models import base as models
from harness.record import Trace
from harness.spec import Job, Workload
from harness.strategies.base import strategy
from harness.strategies.options import Chosen, Option
from harness.strategies.standalone import Standalone

RECOMPUTED = {
    "findings": {
        "batch-norm": "buffers: a checkpointed forward runs again in the backward and updates running statistics a "
        "second time "
        "(torchgpipe 0.0.7); deferred-batch-norm does not"
    }
}
DEFERRED = {"batchnorm": "deferred", "findings": {"batch-norm": None}}
NO_AUTOCAST = "loss: torchgpipe runs layers on threads of its own, in which autocast, which belongs to a thread, is off"


def num_chunks(world_size: int, chosen: Chosen) -> int:
    """Return the number of micro-batches of the pipeline."""
    return int(chosen["chunks"]) or world_size


def check(workload: Workload, world_size: int, chosen: Chosen) -> None:
    """Refuse what cannot be cut into partitions or micro-batches."""
    if num_chunks(world_size, chosen) < 1:
        raise SpecError(f"expected chunks to be >= 1, or 0 for one per device, but got {chosen['chunks']}")
    smallest = plan.smallest_micro_batch(workload)
    if int(chosen["chunks"]) > smallest:
        raise SpecError(
            f"expected chunks to be at most the {smallest} sample(s) of the smallest micro-batch of workload "
            f"{workload.name!r} but got {chosen['chunks']}"
        )
    for ranks in {world_size, workload.check.resume_ranks or world_size}:
        pipeline_cut.require(workload, ranks, str(chosen["balance"]))
        if chosen["deferred-batch-norm"] and models.has_batchnorm(models.layers(workload)):
            _require_all_chunks(workload, num_chunks(ranks, chosen))


def _require_all_chunks(workload: Workload, chunks: int) -> None:
    """Refuse batches that torch.chunk cuts into fewer pieces than DeferredBatchNorm waits for."""
    for size in sorted({len(batch) for step in plan.check_steps(workload) for batch in step.micro_batches}):
        pieces = -(-size // -(-size // chunks))
        if pieces < chunks:
            raise SpecError(
                f"expected every batch of workload {workload.name!r} to make {chunks} micro-batches but {size} samples "
                f"make {pieces}: deferred-batch-norm counts on over batches (torchgpipe 0.0.7), so that running "
                "statistics come late and mixed; choose other chunks, or other batches"
            )


def standalone(chosen: Chosen) -> Standalone:
    """Cut the layers into as many partitions as ranks, all on the CPU of one process."""
    balance = [int(count) for count in str(chosen["balance"]).split("-") if count]
    found = "[len(part) for part in torch.arange(len(model)).tensor_split(ranks)]"
    deferred = ", deferred_batch_norm=True" if chosen["deferred-batch-norm"] else ""
    given = f'devices=["cpu"] * ranks, chunks={chosen["chunks"] or "ranks"}, checkpoint="{chosen["checkpoint"]}"'
    return Standalone(
        imports="from torchgpipe import GPipe",
        wrap=f"balance = {balance or found}\nmodule = GPipe(model, balance, {given}{deferred}).to(DTYPE)",
        shares=False,
        total="",
        launch="one",
    )


@strategy(
    "torchgpipe",
    framework="torch",
    requires=("torch", "torchgpipe"),
    backends={"cpu": "threads", "cuda": "threads"},
    reference_of="torch-serial",
    whole=False,
    processes="one",
    split="chunk",
    batchnorm="per-micro-batch",
    groups=lambda world_size, chosen: max(1, num_chunks(world_size, chosen)),
    world_sizes=(1, 2, 3, 4),
    markers=("torchgpipe",),
    gradients=".grad after the backward through all partitions",
    options={
        "balance": Option(
            meaning="layers of each partition, as in 3-4; empty: what torchgpipe.balance.balance_by_time finds",
            default="",
        ),
        "chunks": Option(meaning="micro-batches; 0: one per device", default=0),
        "checkpoint": Option(
            meaning="whose forwards run again in the backward instead of keeping their activations",
            default="never",
            choices=("never", "always", "except_last"),
            changes={"always": RECOMPUTED, "except_last": RECOMPUTED},
        ),
        "deferred-batch-norm": Option(
            meaning="running statistics are updated once a batch, not once a micro-batch",
            default=False,
            changes={"true": DEFERRED},
        ),
        "autocast": Option(
            meaning="where autocast is opened: inside every layer's forward, or outside, around the whole model",
            default="inside",
            choices=("inside", "outside"),
            changes={"outside": {"findings": {"bf16": NO_AUTOCAST, "fp16": NO_AUTOCAST}}},
        ),
    },
    variants={
        "chunks=4": (),
        "checkpoint=always": ("digits-cnn-adamw-clipped", "digits-mnist-cnn"),
        "checkpoint=except_last": ("digits-cnn-adamw-clipped",),
        "deferred-batch-norm": ("digits-mnist-cnn",),
        "checkpoint=always+deferred-batch-norm": ("digits-mnist-cnn",),
    },
    limits={
        "tied-weights": "torchgpipe 0.0.7 refuses: 'module with duplicate parameters in distinct children is not "
        "supported'"
    },
    check=check,
    standalone=standalone,
    repeats=True,
    preload=("torch._dynamo", "torchgpipe", "torchgpipe.balance", "harness.loops.torch_gpipe"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Cut the sequential model into as many partitions as devices, every batch into micro-batches."""
    from harness.loops.torch_gpipe import Partitions, pipeline
    from harness.loops.torch_loop import Parallelism, fit

    chunks = num_chunks(job.world_size, job.options)
    if job.purpose == "parity" or job.device != "cpu":
        return fit(job, Parallelism(wrap=lambda model: pipeline(model, job, chunks)))
    partitions = Partitions()
    return fit(
        job,
        Parallelism(
            wrap=lambda model: partitions.watch(pipeline(model, job, chunks)),
            backward=partitions.backward,
            closely=partitions.closely,
            pipeline=partitions.pipeline,
        ),
    )
