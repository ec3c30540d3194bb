"""What torch's sharded training does behind the limits that its strategies declare."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from harness import workloads
from harness.launchers.local import Group, Pool
from harness.spec import Job
from harness.strategies import base as strategies
from harness.training import preload

RANK = """
import json
from pathlib import Path

def train(job):
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from harness.loops import torch_model, torch_sharding
    from harness.loops.torch_comm import process_group
    from harness.record import Trace
    from harness.loops.torch_tensor_parallel import spread

    with process_group(job):
        model = torch_model.build(job.workload, dtype=torch.float32, device="cpu")
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("shares", "tp"))
        torch_sharding.shard(spread(model, mesh["tp"]), mesh["shares"])
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        scaler.scale(model(torch.ones(2, *job.workload.shape)).sum()).backward()
        if job.rank == 1:
            model.dense1.weight.grad.to_local()[0, 0] = float("inf")
        before = model.dense1.weight.to_local().clone()
        scaler.step(optimizer)
        moved = bool((model.dense1.weight.to_local() != before).any())
        (Path(job.directory) / f"moved{job.rank}.json").write_text(json.dumps(moved))
    return (Trace(rank=job.rank),)
"""


def test_an_overflow_is_not_told_to_all_ranks_of_a_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for a limit of torch-fsdp-tp: once torch tells all ranks, the limit and this test can go."""
    pytest.importorskip("torch")
    strategies.discover()
    (tmp_path / "overflowing_rank.py").write_text(RANK)
    monkeypatch.syspath_prepend(tmp_path)
    ranks = tuple(
        Job(
            function="overflowing_rank:train",
            strategy="torch-fsdp-tp",
            workload=workloads.get("digits-cnn"),
            rank=rank,
            world_size=4,
            backend="gloo",
            directory=str(tmp_path),
            rendezvous=str(tmp_path / "rendezvous"),
        )
        for rank in range(4)
    )
    with contextlib.closing(Pool(preload)) as pool:
        pool.run([Group(family="torch", jobs=ranks)], timeout_s=60)
    assert [json.loads((tmp_path / f"moved{rank}.json").read_text()) for rank in range(4)] == [True, False, True, False]
    assert "fp16" in strategies.get("torch-fsdp-tp").limits
