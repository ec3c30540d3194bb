"""Layers that use one tensor, and lose it when they are shared out over ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from wrong_strategies import declared, judged

from harness import Job, Trace, workloads
from harness.errors import TraceError
from harness.runner import Runner

pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]


def unties(job: Job) -> tuple[Trace, ...]:
    """Share out two layers that use one tensor: each is given a copy of its own, and torch says nothing."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, parallelize_module

    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit
    from harness.loops.torch_sharding import start_as_rank_0

    def wrap(model: Any) -> Any:
        start_as_rank_0(model)
        names = ("dense1", "dense2", "dense3", "dense4", "dense5")
        plan: dict[str, ParallelStyle] = {name: ColwiseParallel(output_layouts=Replicate()) for name in names}
        return parallelize_module(model, init_device_mesh(job.device, (job.world_size,)), plan)

    with process_group(job) as group:
        return fit(job, Parallelism(wrap=wrap, comm=group, share=(0, 1), tells_samples=job.rank == 0))


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    with declared(unties):
        yield


def test_layers_that_lose_the_tensor_they_share_are_named(ls_runner: Runner) -> None:
    with pytest.raises(TraceError, match=r"but it has dense4.weight, dense4.bias besides"):
        judged(ls_runner, "unties", workloads.get("digits-tied-mlp"))
