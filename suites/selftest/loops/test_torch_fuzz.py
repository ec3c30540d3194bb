from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist
from torch._C._distributed_c10d import HashStore
from torch.nn.parallel import DistributedDataParallel

from harness import fuzz, workloads
from harness.loops.torch_fuzz import delay_gradients, shaken
from harness.spec import Job

SHAKEN = Job(function="nothing:here", strategy="torch-ddp", workload=workloads.get("digits-mlp"), fuzz=1)
CALM = Job(function="nothing:here", strategy="torch-ddp", workload=workloads.get("digits-mlp"))


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The visits to each site, none of which waits."""
    seen: Counter[str] = Counter()

    def count(shaker: fuzz.Shaker, site: str) -> None:
        seen[site] += shaker.on

    monkeypatch.setattr(fuzz.Shaker, "pause", count)
    return seen


@pytest.fixture
def _alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def train(job: Job) -> None:
    with shaken(job):
        model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        delay_gradients(model, job)
        parallel = DistributedDataParallel(model)
        optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
        parallel(torch.ones(2, 4)).sum().backward()
        optimizer.step()


@pytest.mark.usefixtures("_alone")
def test_what_a_library_does_from_c_plus_plus_is_delayed_as_well(visits: Counter[str]) -> None:
    train(SHAKEN)
    assert visits["c10d::broadcast_"], "the first weights"
    assert visits["c10d::allreduce_"], "one bucket of gradients"
    assert visits["aten::copy_"]
    assert visits["gradient"] == 4
    assert visits["forward"] == 4, "the wrapper, the model and its two layers"
    assert visits["optimizer step"] == 1


@pytest.mark.usefixtures("_alone")
def test_nothing_stays_behind_and_a_job_without_a_seed_has_nothing(visits: Counter[str]) -> None:
    train(SHAKEN)
    visits.clear()
    train(CALM)
    assert not visits
