"""Pipeline parallelism with torchgpipe: consecutive layers on W devices of one process, micro-batches in between."""

from __future__ import annotations

from harness.errors import SpecError
from harness.record import Trace
from harness.spec import Job
from harness.strategies.base import strategy


@strategy(
    "torchgpipe",
    framework="torch",
    requires=("torch", "torchgpipe"),
    backends={"cpu": "threads", "cuda": "threads"},
    reference_of="torch-serial",
    processes="one",
    split="chunk",
    batchnorm="per-micro-batch",
    world_sizes=(2, 3, 4),
    markers=("torchgpipe",),
    preload=("torch._dynamo", "torchgpipe"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Cut the sequential model into as many partitions as ranks; every batch into as many micro-batches."""
    import torch
    from torchgpipe import GPipe

    from harness.loops.torch_loop import Parallelism, fit

    def pipeline(model: torch.nn.Module) -> torch.nn.Module:
        assert isinstance(model, torch.nn.Sequential)
        devices = [torch.device(job.device, i) if job.device == "cuda" else job.device for i in range(job.world_size)]
        balance = balanced([sum(p.numel() for p in layer.parameters()) for layer in model], job.world_size)
        pipe: torch.nn.Module = GPipe(model, balance, devices=devices, chunks=job.world_size, checkpoint="never")
        return pipe

    return fit(job, Parallelism(wrap=pipeline))


def balanced(costs: list[int], num_partitions: int) -> list[int]:
    """Return how many consecutive layers each partition holds, the heaviest partition as light as it can be.

    Raises:
        SpecError: there are fewer layers than partitions.
    """
    if len(costs) < num_partitions:
        raise SpecError(
            f"expected at least one layer per partition but the model has {len(costs)} layers for {num_partitions} "
            "partitions; use fewer ranks or a deeper model"
        )
    best: dict[tuple[int, int], tuple[int, list[int]]] = {(0, 0): (0, [])}
    for partitions in range(1, num_partitions + 1):
        for end in range(partitions, len(costs) + 1):
            best[partitions, end] = min(
                (
                    max(best[partitions - 1, start][0], sum(costs[start:end])),
                    [*best[partitions - 1, start][1], end - start],
                )
                for start in range(partitions - 1, end)
                if (partitions - 1, start) in best
            )
    return best[num_partitions, len(costs)][1]
