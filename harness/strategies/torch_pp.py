"""Pipeline parallelism with torch.distributed.pipelining: every rank trains its own layers."""

from __future__ import annotations

from harness.errors import SpecError
from harness.loops import pipeline_cut
from harness.record import Trace
from harness.spec import Job, Workload
from harness.strategies.base import strategy
from harness.strategies.options import Chosen, Option
from harness.strategies.standalone import Standalone

SCHEDULE = Option(
    meaning="the order of forwards and backwards",
    default="gpipe",
    choices=("gpipe", "1f1b", "interleaved"),
)
CHUNKS = Option(meaning="micro-batches of the pipeline; 0: one per rank", default=0)
BALANCE = Option(meaning="layers of each stage, as in 3-4; empty: balanced by their measured cost", default="")
LONE = (
    "expected at least 2 ranks for schedule 'interleaved' but got 1: stages next to each other on one rank cannot "
    "predict (torch 2.15: \"can't steal_bwd_input if this stage doesn't have backward\"); take gpipe or 1f1b"
)
PADDING = (
    "stages receive every micro-batch into a buffer of the first one's shape (torch.distributed.pipelining), so a "
    "smaller batch must be padded, and a batch norm sees the padding"
)


def num_chunks(world_size: int, chosen: Chosen) -> int:
    """Return the number of micro-batches of the pipeline."""
    return int(chosen["chunks"]) or world_size


def check(workload: Workload, world_size: int, chosen: Chosen) -> None:
    """Refuse what cannot be cut into stages, or into micro-batches that the schedule takes."""
    schedule = str(chosen["schedule"])
    for ranks in {world_size, workload.check.resume_ranks or world_size}:
        if schedule == "interleaved" and ranks == 1:
            raise SpecError(LONE)
        chunks = num_chunks(ranks, chosen)
        pipeline_cut.require_chunks(chunks, ranks, schedule)
        pipeline_cut.require(workload, 2 * ranks if schedule == "interleaved" else ranks, str(chosen["balance"]))
        pipeline_cut.require_equal_micro_batches(workload, chunks)


def standalone(chosen: Chosen) -> Standalone:
    """Hold a run of layers, as many as other ranks do, and let a schedule train them.

    Raises:
        SpecError: the schedule gives a rank several stages.
    """
    kinds = {"gpipe": "ScheduleGPipe", "1f1b": "Schedule1F1B"}
    kind, chunks = kinds.get(str(chosen["schedule"])), int(chosen["chunks"]) or "ranks"
    if kind is None:
        raise SpecError(f"no standalone script for torch-pp with schedule={chosen['schedule']}; take gpipe or 1f1b")
    own_layers = "torch.arange(len(model)).tensor_split(ranks)[rank].tolist()"
    return Standalone(
        imports=f"from torch.distributed.pipelining import PipelineStage, {kind}",
        wrap=f"""model = nn.ModuleDict({{str(i): model[i] for i in {own_layers}}})
stage = PipelineStage(nn.Sequential(*model.values()), rank, ranks, torch.device("cpu"))
loss_fn = lambda logits, target: nn.functional.cross_entropy(logits, target, reduction="sum") / len(batch)
schedule = {kind}(stage, {chunks}, loss_fn=loss_fn, scale_grads=False)""",
        backward="""losses, last = [], rank == ranks - 1
schedule.step(*([] if rank else [IMAGES[own]]), target=LABELS[own] if last else None, losses=losses)
loss = torch.stack(losses).sum().detach() if last else torch.zeros((), dtype=DTYPE)
torch.distributed.all_reduce(loss)  # what the last stage tells""",
        shares=False,
        total="",
    )


@strategy(
    "torch-pp",
    framework="torch",
    requires=("torch",),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    whole=False,
    world_sizes=(1, 2, 3, 4),
    batchnorm="per-micro-batch",
    groups=lambda world_size, chosen: max(1, num_chunks(world_size, chosen)),
    gradients=".grad of the rank's own layers after schedule.step(), tied ones added up over their stages",
    options={"schedule": SCHEDULE, "chunks": CHUNKS, "balance": BALANCE},
    variants={
        "schedule=1f1b": (),
        "chunks=4": (),
        "schedule=1f1b+chunks=6": ("digits-cnn-adamw-clipped", "digits-tied-mlp"),
        "schedule=interleaved": ("digits-cnn-adamw-clipped", "digits-tied-mlp", "digits-batchnorm-even"),
    },
    limits={"batch-norm+uneven-batch": PADDING},
    check=check,
    standalone=standalone,
    repeats=True,
    preload=("harness.loops.torch_pipeline", "harness.loops.torch_comm", "harness.loops.torch_loop"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Hold a stage of the layers; micro-batches and their gradients travel between the ranks."""
    import torch.distributed as dist

    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import fit
    from harness.loops.torch_pipeline import Pipeline

    with process_group(job) as comm:
        group = dist.group.WORLD
        assert group is not None
        pipeline = Pipeline(
            job,
            group,
            schedule=str(job.options["schedule"]),
            chunks=num_chunks(job.world_size, job.options),
            balance=str(job.options["balance"]),
        )
        return fit(job, pipeline.parallelism(comm, tells_samples=job.rank == 0))
