"""Where the time of real epochs goes: parts that add up, slow work found where it is, bytes that are exact."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from harness import jobs, workloads
from harness.launchers.local import Pool
from harness.measure import machine, pipelines
from harness.measure.breakdown import breakdown
from harness.models import base as models
from harness.record import Trace
from harness.runner import Runner
from harness.spec import Case, Workload
from harness.strategies import base as strategies
from harness.timings import Epoch, Part
from harness.training import Settings, preload

NUM_STEPS = 4
CNN = msgspec.structs.replace(
    workloads.get("digits-cnn"), name="parts", dataset="synthetic", shape=(1, 8, 8), num_samples=NUM_STEPS * 128
)
MLP = msgspec.structs.replace(CNN, name="parts-mlp", model="mlp")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """Two timed epochs, a row a rank, one more that was profiled, and the traces."""

    rows: list[list[Epoch]]
    profiled: tuple[Epoch, ...]
    traces: tuple[Trace, ...]


Train = Callable[..., Trained]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Train]:
    """Train a workload with a strategy, or with another function in its place."""
    strategies.discover()
    with contextlib.closing(Pool(preload)) as pool:
        runner = Runner(Settings(scratch=tmp_path_factory.mktemp("parts"), timeout_s=120.0, power=False), pool)

        def run(name: str, workload: Workload = CNN, *, function: str = "", parts: bool = True) -> Trained:
            strategy = strategies.get(name)
            lacking = strategy.missing()
            if lacking:
                pytest.skip(lacking)
            case = Case(workload=workload.name, strategy=name, world_size=1 if strategy.serial else 2)
            template = runner.trainings.template(case, workload, "timing")
            ranks = jobs.parallel(template, case, strategy, cpus=machine.shares(2)[: case.world_size])
            if function:
                ranks = tuple(msgspec.structs.replace(job, function=function) for job in ranks)
            with pool.open([runner.trainings.group(strategy, ranks)], timeout_s=120.0) as session:
                epochs = [session.epoch(0, parts=parts) for _ in range(2)]
                profiled = session.epoch(0, profile=True)
                traces = session.finish(0)
            return Trained(rows=[list(row) for row in zip(*epochs, strict=True)], profiled=profiled, traces=traces)

        yield run


# What a loop of each kind can tell apart.
TOLD = {
    "torch-serial": {"forward", "backward"},
    "torch-ddp": {"forward", "backward"},
    "torch-fsdp": {"forward", "backward"},
    "torch-pp": {"forward", "backward", "communication"},
    "torchgpipe": {"forward", "backward"},
    "horovod-torch": {"forward", "backward", "communication"},
    "deepspeed-zero2": {"forward", "backward"},
    "tf-mirrored": {"step"},
    "horovod-keras": {"step"},
    "tf-parameter-server": {"step"},
}


@pytest.mark.parametrize("name", TOLD)
def test_the_parts_of_an_epoch_add_up_to_it(name: str, train: Train) -> None:
    trained = train(name)
    found = breakdown(trained.rows, None, num_steps=NUM_STEPS)
    assert found is not None
    assert 0.95 <= found.accounted <= 1.0001
    for row in filter(None, found.ranks):
        assert row.keys() >= TOLD[name] | {"data", "idle", "other"}
        assert min(row.values()) >= 0


def test_an_epoch_can_be_timed_as_a_whole(train: Train) -> None:
    assert all(not epoch.parts for row in train("torch-serial", parts=False).rows for epoch in row)


LAME = """
from functools import partial

import numpy as np

from harness.loops import torch_loop, torch_parallelism
from harness.loops.torch_comm import process_group

def worked():
    np.linalg.svd(np.random.default_rng(0).normal(size=(400, 400)))

def backward(module, batch):
    worked()
    return torch_parallelism.backward(module, batch)

def feed(make, steps):
    def fetch(step, samples):
        worked()
        return make(step, samples)
    return fetch

def lame_rank(job):
    with process_group(job) as group:
        from torch.nn.parallel import DistributedDataParallel
        own = {"backward": backward} if job.rank == 1 else {}
        return torch_loop.fit(job, torch_loop.Parallelism(wrap=DistributedDataParallel, comm=group, **own))

def lame_data(job):
    return torch_loop.fit(job, torch_loop.Parallelism(feed=feed))
"""


@pytest.fixture
def lame(tmp_path: Path) -> Path:
    """A file of strategies that do real work where it hurts."""
    file = tmp_path / "lame.py"
    file.write_text(LAME)
    return file


def seconds(trained: Trained, rank: int, part: Part) -> float:
    """Return the seconds of a part in the last epoch: in the first, libraries still load."""
    return trained.rows[rank][-1].parts.get(part, 0.0)


def test_a_slow_loader_shows_as_data(train: Train, lame: Path) -> None:
    sound, slow = train("torch-serial", MLP), train("torch-serial", MLP, function=f"{lame}:lame_data")
    assert seconds(slow, 0, "data") > 5 * seconds(sound, 0, "data")
    assert seconds(slow, 0, "data") > seconds(slow, 0, "optimizer")


def test_a_slow_rank_shows_as_its_own_forward_and_as_waiting_of_the_other(train: Train, lame: Path) -> None:
    slow = train("torch-ddp", MLP, function=f"{lame}:lame_rank")
    assert seconds(slow, 1, "forward") > 2 * seconds(slow, 0, "forward")
    # The library waits for gradients inside backward.
    assert seconds(slow, 0, "backward") > 2 * seconds(slow, 1, "backward")


# -- a closer look -----------------------------------------------------------------------------------------------


def test_a_profile_finds_every_byte_of_gradients_that_ddp_reduces(train: Train) -> None:
    trained = train("torch-ddp", MLP)
    num_bytes = 4 * models.num_parameters(models.layers(MLP))
    for rank, trace in enumerate(trained.traces):
        seen = trace.communication
        assert seen is not None
        assert (seen.rank, seen.num_calls, seen.num_bytes) == (rank, NUM_STEPS, NUM_STEPS * num_bytes)
        assert 0 <= seen.exposed_s <= seen.busy_s <= seen.epoch_s
        assert seen.bus_bytes_per_s == pytest.approx(seen.num_bytes / seen.busy_s)  # a factor of 1 on two ranks
        assert seen.link_bytes_per_s is not None
        assert seen.link_bytes_per_s > 0


def test_micro_batches_that_each_reduce_show_as_twice_the_bytes(train: Train) -> None:
    """A negative control: bytes are counted, not computed from the model."""
    accumulated = msgspec.structs.replace(MLP, accumulation=2)
    once, twice = (
        train(name, accumulated).traces[0].communication for name in ("torch-ddp", "torch-ddp+no-sync=false")
    )
    assert once is not None
    assert twice is not None
    assert twice.num_bytes == 2 * once.num_bytes


def test_what_is_profiled_counts_neither_as_training_nor_in_the_scores(train: Train) -> None:
    trained = train("torch-serial", MLP)
    assert len(trained.traces[0].losses) == 2
    assert trained.traces[0].communication is None
    (epoch,) = trained.profiled
    assert epoch.num_samples == MLP.num_samples


@pytest.mark.parametrize(
    "name", ["torch-pp", "torch-pp+schedule=1f1b+chunks=4", "torchgpipe", "torchgpipe+checkpoint=always"]
)
def test_a_pipeline_tells_how_busy_its_stages_are(name: str, train: Train) -> None:
    trained = train(name)
    whole = pipelines.joined([trace.pipeline for trace in trained.traces])
    assert whole is not None
    chunks = 4 if "chunks" in name else 2
    assert (len(whole.busy_s), whole.num_micro_batches) == (2, chunks)
    assert whole.ideal == pytest.approx(chunks / (chunks + 1))
    assert min(whole.busy_s) > 0
    assert 0 < whole.efficiency < 1
    # torchgpipe's partitions take turns on a CPU: together they are busy once.
    if "torchgpipe" in name:
        assert sum(whole.busy_s) <= whole.epoch_s
