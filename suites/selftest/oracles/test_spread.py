"""Whether ranks share the work at all, as their traces tell it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from oracle_toy import WORKLOAD, Held, Plan, train
from oracle_toy import spread as spread_out

from harness.oracles.spread import shared
from harness.record import Rung, Trace
from harness.recorder import Recorder
from harness.spec import Job


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return train(tmp_path_factory.mktemp("run"))[0]


def ranks(folder: Path, *, telling: int) -> list[Trace]:
    """Two ranks that hold all weights whole, of which so many tell samples."""
    found: list[Trace] = []
    for rank in range(2):
        recorder = Recorder(
            Job(function="a:b", strategy="s", workload=WORKLOAD, world_size=2, rank=rank, directory=str(folder))
        )
        recorder.tap("parameters", 0, "w", [1.0, 2.0])
        if rank < telling:
            recorder.tap("data order", 0, "samples", [0, 1])
        found += recorder.traces()
    return found


def test_ranks_that_each_train_samples_share_them(tmp_path: Path) -> None:
    assert shared(ranks(tmp_path, telling=2))


@pytest.mark.parametrize("telling", [0, 1])
def test_where_one_rank_tells_all_samples_and_all_weights_are_whole_nothing_is_shared(
    tmp_path: Path, telling: int
) -> None:
    assert not shared(ranks(tmp_path, telling=telling))


def test_a_rank_that_declares_a_part_and_holds_everything_shares_nothing(tmp_path: Path) -> None:
    traces = ranks(tmp_path, telling=1)
    parts = [{rung: msgspec.structs.replace(file, part=True) for rung, file in each.rungs.items()} for each in traces]
    assert not shared([msgspec.structs.replace(trace, rungs=rungs) for trace, rungs in zip(traces, parts, strict=True)])


def halves(_rung: Rung, _name: str, shape: tuple[int, ...]) -> Held:
    if not shape:
        return [(0, None)]
    rest = [slice(0, size) for size in shape[1:]]
    middle = shape[0] // 2
    return [(rank, (rows, *rest)) for rank, rows in enumerate((slice(0, middle), slice(middle, shape[0])))]


def stages(_rung: Rung, name: str, _shape: tuple[int, ...]) -> Held:
    return [(0 if name.startswith("one.") else 1, None)]


@pytest.mark.parametrize("plan", [halves, stages])
def test_ranks_that_see_the_same_samples_share_the_tensors(run: Trace, tmp_path: Path, plan: Plan) -> None:
    """Tensors cut in pieces, and whole tensors spread as a pipeline does; rank 0 alone tells the samples."""
    traces = spread_out(run, tmp_path, plan)
    assert [trace.rank for trace in traces if "data order" in trace.rungs] == [0]
    assert shared(traces)


def test_one_process_that_speaks_for_all_its_replicas_is_believed(run: Trace) -> None:
    assert shared([run])
