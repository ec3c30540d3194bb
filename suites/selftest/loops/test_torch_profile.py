"""What a profiler's events say of an epoch: events as kineto tells them, made up, on a CPU and on a GPU."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch, which is not installed")

from torch._C._autograd import DeviceType

from harness.loops import torch_profile
from harness.loops.torch_settings import stopwatch
from harness.spec import Job, Workload
from harness.timings import Epoch

pytestmark = pytest.mark.torch
MAIN, LIBRARY = os.getpid(), 1
EPOCH = Epoch(start_s=100.0, end_s=110.0, num_samples=8)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kineto:
    """One event with kineto's methods; times are seconds of the monotonic clock."""

    what: str
    begin_s: float
    lasts_s: float
    resource: int = MAIN
    on: Any = DeviceType.CPU
    sizes: tuple[tuple[int, ...], ...] = ()
    kinds: tuple[str, ...] = ()

    def name(self) -> str:
        return self.what

    def start_ns(self) -> int:
        return int(self.begin_s * 1e9) + time.time_ns() - time.monotonic_ns()

    def duration_ns(self) -> int:
        return int(self.lasts_s * 1e9)

    def device_resource_id(self) -> int:
        return self.resource

    def device_type(self) -> Any:
        return self.on

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return self.sizes

    def dtypes(self) -> tuple[str, ...]:
        return self.kinds


def reduced(begin_s: float, name: str = "gloo:all_reduce", resource: int = LIBRARY) -> Kineto:
    return Kineto(what=name, begin_s=begin_s, lasts_s=1.0, resource=resource, sizes=((10, 3),), kinds=("float",))


def test_on_a_cpu_operators_compute_and_the_librarys_threads_do_not() -> None:
    events = [
        reduced(101),
        Kineto(what="aten::add_", begin_s=101.2, lasts_s=0.1, resource=LIBRARY),
        Kineto(what="aten::mm", begin_s=102, lasts_s=1.0),
        Kineto(what="autograd::engine::evaluate_function", begin_s=102, lasts_s=3.0),
    ]
    seen = torch_profile.sorted_out(events, EPOCH, on_device=False)
    assert [(event.kind, event.num_bytes) for event in seen.called] == [("allreduce", 120)]
    assert [event.name for event in seen.computing] == ["aten::mm"]
    assert seen.called[0].start_s == pytest.approx(101, abs=1e-3)


def test_a_collective_called_on_the_training_thread_does_not_hide_what_that_computes() -> None:
    events = [reduced(101, "gloo:send", resource=MAIN), Kineto(what="aten::mm", begin_s=102, lasts_s=1.0)]
    assert len(torch_profile.sorted_out(events, EPOCH, on_device=False).computing) == 1


def test_what_begins_before_the_epoch_or_after_it_does_not_count() -> None:
    events = [reduced(99.9), reduced(110.5), reduced(105)]
    assert len(torch_profile.sorted_out(events, EPOCH, on_device=False).called) == 1


def test_on_a_gpu_kernels_compute_and_kernels_move() -> None:
    gpu: dict[str, Any] = {"on": DeviceType.CUDA, "resource": 7}
    events = [
        reduced(101, "nccl:all_reduce", resource=MAIN),
        Kineto(what="aten::mm", begin_s=101, lasts_s=0.1),
        Kineto(what="ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgs)", begin_s=102, lasts_s=2.0, **gpu),
        Kineto(what="nccl:all_reduce", begin_s=102, lasts_s=2.0, **gpu),
        Kineto(what="ampere_sgemm_128x64_nn", begin_s=103, lasts_s=2.0, **gpu),
    ]
    seen = torch_profile.sorted_out(events, EPOCH, on_device=True)
    assert [event.num_bytes for event in seen.called] == [120]
    assert [event.name for event in seen.computing] == ["ampere_sgemm_128x64_nn"]
    assert [event.end_s - event.start_s for event in seen.moving] == [pytest.approx(2)]


@pytest.mark.parametrize(
    ("sizes", "kinds", "num_bytes"),
    [
        (((4, 5), ()), ("c10::BFloat16", "Scalar"), 40),
        (((7,), (2,)), ("long int", "double"), 72),
        (((),), ("",), 0),
    ],
)
def test_bytes_are_those_of_the_tensors_handed_over(sizes: Any, kinds: Any, num_bytes: int) -> None:
    assert torch_profile.handed(sizes, kinds) == num_bytes


def test_on_a_gpu_stamps_are_events_of_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        clock_ms = 0.0

        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing, "without it CUDA keeps no times"

        def record(self) -> None:
            Event.clock_ms += 250.0
            self.at_ms = Event.clock_ms

        def elapsed_time(self, later: Event) -> float:
            return later.at_ms - self.at_ms

    monkeypatch.setattr(torch.cuda, "Event", Event)
    workload = Workload(name="w", model="mlp", dataset="synthetic")
    watch = stopwatch(Job(function="a:b", strategy="s", workload=workload, device="cuda"))
    watch.start()
    watch.mark("forward")
    watch.mark("backward")
    watch.mark("forward")
    assert watch.stop(8).parts == {"forward": 0.5, "backward": 0.25, "other": 0.0}
