"""Cases are timed in rounds until it is enough, in strong or weak scaling, on shares that are said."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_project import ONE, TIMING, Project, Result

from harness.measure import machine
from harness.record import Record

TWO_AND_THREE = ("--ls-workload=tiny", "--ls-strategy=numpy-mean", "--ls-world-size=2", "--ls-world-size=3")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path, TIMING)


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return Project(tmp_path_factory.mktemp("sizes"), TIMING).run(*TWO_AND_THREE, "--ls-device=cpu")


def timed(result: Result, world_size: int = 2) -> Record:
    (found,) = (record for record in result.records if record.world_size == world_size and record.device == "cpu")
    assert found.timing is not None, result.text
    return found


def test_rounds_go_on_until_the_time_is_up(project: Project) -> None:
    result = project.run(*ONE, "--ls-precision=0.01%", "--ls-budget=0.5")
    timing = timed(result).timing
    assert timing is not None
    assert timing.sampling is not None
    assert timing.sampling.stopped == "budget"
    assert timing.sampling.precision == pytest.approx(1e-4)
    assert timing.sampling.num_needed is not None
    assert timing.sampling.num_rounds == len(timing.epoch_wall_s) == len(timing.yardstick_s)
    assert timing.sampling.num_rounds >= 6


def test_in_weak_scaling_every_rank_has_the_whole_batch(project: Project) -> None:
    record = timed(project.run(*ONE, "--ls-scaling=weak"))
    timing = record.timing
    assert timing is not None
    assert timing.scaling == "weak"
    batches = {baseline.name: baseline.batch for baseline in timing.baselines}
    per_rank = batches["one share"]
    assert batches == {"one share": per_rank, "whole machine": 2 * per_rank, "independent": per_rank}
    assert "--ls-scaling=weak" in record.command


def test_a_batch_that_outgrows_the_samples_is_no_weak_scaling(project: Project) -> None:
    result = project.run(*ONE[:2], "--ls-world-size=5", "--ls-device=cpu", "--ls-scaling=weak")
    (record,) = result.records
    assert record.timing is None
    assert "expected at least 80 samples, the batch of 5 ranks in weak scaling, but an epoch has 64" in record.reason


def test_a_rank_owns_the_same_at_every_world_size_of_a_session(sizes: Result) -> None:
    shares = [timed(sizes, size).timing.share for size in (2, 3)]  # type: ignore[union-attr]
    assert shares[0] == shares[1]
    assert shares[0] is not None
    assert shares[0].num_cores == max(1, len(machine.cores()) // 3)


def test_ranks_that_share_cores_are_timed_and_labelled_but_have_no_efficiency(sizes: Result) -> None:
    timing = timed(sizes, 3).timing
    assert timing is not None
    few = len(machine.cores()) < 3
    assert timing.oversubscribed == few
    assert (timing.efficiency is None) == few
    assert timing.speedup is not None
    assert ("cores shared" in sizes.text) == few


@pytest.mark.parametrize("option", ["--ls-precision=0", "--ls-precision=150%", "--ls-budget=-1", "--ls-scaling=both"])
def test_what_no_timing_can_reach_is_refused_at_once(project: Project, option: str) -> None:
    result = project.run(*ONE, option)
    assert result.code == pytest.ExitCode.USAGE_ERROR
    assert "expected a" in result.text or "invalid choice" in result.text


def test_the_serial_runs_at_once_are_as_many_as_there_are_ranks(project: Project) -> None:
    timing = timed(project.run(*ONE)).timing
    assert timing is not None
    alone = next(baseline for baseline in timing.baselines if baseline.name == "independent")
    assert alone.num_processes == 2
    assert alone.num_threads == timing.baselines[0].num_threads
    assert [loss.name for loss in timing.losses] in (["batch", "machine", "ranks"], [])
    assert timing.resolution is not None
    assert len(timing.used) == 2
    assert all(used.wall_s > 0 for used in timing.used)
