"""Bugs under sharded parameters, of which ranks hold pieces: injected ones, and mistakes that only sharding allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from wrong_strategies import declared, judged

from harness import Job, Trace, Workload, workloads
from harness.errors import TraceError
from harness.runner import Runner
from harness.spec import Optimizer

pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]
SHARDED = Workload(
    name="sharded",
    model="mlp",
    dataset="digits",
    optimizer=Optimizer(name="adamw", learning_rate=1e-3, weight_decay=1e-2),
    clip_norm=0.1,
)
# Where each bug must show first; -1 is before the first step.
FIRST_SEEN = {
    "learning-rate-x-world": ("parameters", 0),
    "lost-momentum": ("optimizer state", 2),
    "mean-of-means": ("loss", 2),
    "no-broadcast": ("parameters", -1),
    "regulariser-x-world": ("parameters", 0),
    "stale-gradients": ("gradients before clipping", 1),
    "sum-for-mean": ("gradients before clipping", 0),
    "wrong-shard": ("data order", 0),
}
# Ranks that see the same samples have no shares to average or to mistake.
OF_SHARES = {"mean-of-means", "wrong-shard"}
CAUGHT = [
    (name, bug)
    for name in ("torch-fsdp", "torch-tp")
    for bug in FIRST_SEEN
    if name == "torch-fsdp" or bug not in OF_SHARES
]


@pytest.mark.parametrize(("name", "bug"), CAUGHT)
def test_bug_is_caught_in_pieces_where_it_first_acts(name: str, bug: str, ls_runner: Runner) -> None:
    verdict = judged(ls_runner, name, SHARDED, bug)
    assert verdict.conclusion == "different", verdict
    assert verdict.divergence is not None
    assert (verdict.divergence.rung, verdict.divergence.step) == FIRST_SEEN[bug], verdict
    assert verdict.divergence.times_threshold > 1e5, verdict


@pytest.mark.parametrize("name", ["torch-fsdp", "torch-tp"])
def test_the_same_sharded_case_without_a_bug_is_equivalent(name: str, ls_runner: Runner) -> None:
    assert judged(ls_runner, name, SHARDED).equivalent


# -- mistakes that only sharding allows ------------------------------------------------------------------------------


def _own_pieces(parameters: Sequence[Any], workload: Workload) -> None:
    """Clip by the norm of this rank's own pieces (torchtitan #766)."""
    import torch

    norm = torch.stack([p.grad.to_local().norm() for p in parameters]).norm()
    for parameter in parameters:
        parameter.grad *= (workload.clip_norm or 1.0) / max(float(norm), workload.clip_norm or 1.0)


def _train(job: Job, shard: Callable[[Any, Any], Any], **settings: Any) -> tuple[Trace, ...]:
    from torch.distributed.device_mesh import init_device_mesh

    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit
    from harness.loops.torch_sharding import start_as_rank_0

    def wrap(model: Any) -> Any:
        start_as_rank_0(model)
        return shard(model, init_device_mesh(job.device, (job.world_size,)))

    with process_group(job) as group:
        return fit(job, Parallelism(wrap=wrap, comm=group, **settings))


def clips_own_pieces(job: Job) -> tuple[Trace, ...]:
    from harness.loops.torch_sharding import shard

    return _train(job, shard, clip=_own_pieces)


def unties(job: Job) -> tuple[Trace, ...]:
    """Share out two layers that use one tensor: each is given a copy of its own, and torch says nothing."""
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    def each_layer(model: Any, mesh: Any) -> Any:
        names = ("dense1", "dense2", "dense3", "dense4", "dense5")
        return parallelize_module(model, mesh, {name: ColwiseParallel(output_layouts=Replicate()) for name in names})

    return _train(job, each_layer, share=(0, 1), tells_samples=job.rank == 0)


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    with declared(clips_own_pieces, unties):
        yield


def test_clipping_by_the_norm_of_own_pieces_is_caught(ls_runner: Runner) -> None:
    verdict = judged(ls_runner, "clips_own_pieces", SHARDED)
    assert verdict.conclusion == "different"
    assert verdict.divergence is not None
    assert (verdict.divergence.rung, verdict.divergence.step) == ("gradients after clipping", 0), verdict


def test_layers_that_lose_the_tensor_they_share_are_named(ls_runner: Runner) -> None:
    with pytest.raises(TraceError, match=r"but it has dense4.weight, dense4.bias besides"):
        judged(ls_runner, "unties", workloads.get("digits-tied-mlp"))
