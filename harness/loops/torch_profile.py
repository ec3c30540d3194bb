"""An epoch under torch's profiler: what the ranks' collectives did meanwhile, and what the link does alone."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.distributed as dist
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity

from harness.measure.collectives import Event, bus_factor, communication
from harness.spec import Job
from harness.timings import Communication, Epoch

# An epoch and its loss.
Trained: TypeAlias = tuple[Epoch, torch.Tensor]
# A profile holds every operator in memory: a long epoch is seen in its first steps.
MOST_STEPS = 200
NUM_WARMUP, NUM_REPEATS = 3, 15
_SIZES = {
    "double": 8,
    "float": 4,
    "c10::Half": 2,
    "c10::BFloat16": 2,
    "long int": 8,
    "long": 8,
    "int": 4,
    "short int": 2,
    "short": 2,
    "signed char": 1,
    "unsigned char": 1,
    "bool": 1,
}


def profiled(job: Job, train: Callable[[], Trained]) -> tuple[Trained, Communication | None]:
    """Train an epoch and return it with what torch.distributed did in it: None where its ranks do not use that.

    Every rank calls this at the same time.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return train(), None
    cuda = job.device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with torch.profiler.profile(activities=activities, record_shapes=True) as profiler:
        trained = train()
    epoch, _ = trained
    seen = sorted_out(profiler.profiler.kineto_results.events(), epoch, on_device=cuda)
    largest = max((event.num_bytes for event in seen.called), default=0)
    return trained, communication(
        seen.called,
        seen.computing,
        moving=seen.moving if cuda else None,
        rank=job.rank,
        num_ranks=dist.get_world_size() if _one_group() else None,
        epoch_s=epoch.end_s - epoch.start_s,
        link_bytes_per_s=link_bytes_per_s(job, largest),
    )


class Seen(NamedTuple):
    """What a profiler saw: collectives when they were called, what was computed, what a device moved meanwhile."""

    called: list[Event]
    computing: list[Event]
    moving: list[Event]


def sorted_out(events: Iterable[Any], epoch: Epoch, *, on_device: bool) -> Seen:
    """Sort kineto's events of one process, those of its epoch only: what comes before it may still go on then.

    On a CPU a collective lasts from its call to its end, on threads of its library, which compute nothing else; what
    was computed are the operators of all other threads. On a device both are kernels.
    """
    called: list[Event] = []
    moving: list[Event] = []
    operators: list[tuple[int, Event]] = []
    threads: set[int] = set()
    # Kineto's times are those of the day.
    since_ns = time.time_ns() - time.monotonic_ns()
    for event in events:
        name = event.name()
        start_s = (event.start_ns() - since_ns) / 1e9
        if not epoch.start_s <= start_s <= epoch.end_s:
            continue
        seen = Event(name=name, start_s=start_s, end_s=start_s + event.duration_ns() / 1e9)
        if event.device_type() != DeviceType.CPU:
            if not name.startswith("nccl"):
                operators.append((-1, seen))
            elif "Kernel" in name:
                moving.append(seen)
        elif name.startswith(("gloo:", "nccl:")):
            called.append(replace(seen, num_bytes=handed(event.shapes(), event.dtypes())))
            threads.add(event.device_resource_id())
        elif name.startswith("aten::") and not on_device:
            operators.append((event.device_resource_id(), seen))
    # Some are called, and end, on the thread that trains.
    threads.discard(threading.get_native_id())
    return Seen(called, [event for thread, event in operators if thread not in threads], moving)


def handed(shapes: Iterable[Iterable[Any]], dtypes: Iterable[str]) -> int:
    """Return the bytes of the tensors that a collective was called with."""
    return sum(math.prod(shape) * _SIZES.get(dtype, 0) for shape, dtype in zip(shapes, dtypes, strict=False) if shape)


def link_bytes_per_s(job: Job, num_bytes: int) -> float | None:
    """Return busbw of an all-reduce of so many bytes with nothing beside it, the median of some; None of nothing.

    The largest size that any rank asks for is taken, as all must reduce the same.
    """
    size = torch.tensor([num_bytes], dtype=torch.int64, device=_device(job))
    dist.all_reduce(size, op=dist.ReduceOp.MAX)
    values = torch.zeros(int(size) // 4, device=_device(job))
    if not len(values):
        return None
    seconds = [_all_reduce_s(values) for _ in range(NUM_WARMUP + NUM_REPEATS)][NUM_WARMUP:]
    # The last rank to be done: it has waited for nobody.
    slowest = torch.tensor([statistics.median(seconds)], dtype=torch.float64, device=_device(job))
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    factor = bus_factor("allreduce", dist.get_world_size())
    assert factor is not None, "an all-reduce has one"
    return factor * values.nbytes / float(slowest)


def _all_reduce_s(values: torch.Tensor) -> float:
    dist.barrier()
    if values.is_cuda:
        torch.cuda.synchronize()
    begin_s = time.monotonic()
    dist.all_reduce(values)
    if values.is_cuda:
        torch.cuda.synchronize()
    return time.monotonic() - begin_s


def _device(job: Job) -> str:
    return "cpu" if job.device == "cpu" else f"cuda:{torch.cuda.current_device()}"


def _one_group() -> bool:
    """Whether every collective is one of all ranks."""
    return all(dist.get_world_size(group) == dist.get_world_size() for group in dist.distributed_c10d._world.pg_map)
