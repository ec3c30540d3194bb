"""Epoch times become speed-ups over named baselines, and misleading ones are said to mislead."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from harness.errors import UsageError
from harness.measure.timing import Serial, speedup_warnings, summarise
from harness.timings import BaselineName, Epoch, Interval, Timing

NUM_EPOCHS = 9


def epochs(seconds: Sequence[float], num_samples: int = 100, start_s: float = 50.0) -> list[Epoch]:
    ends = start_s + np.cumsum(np.asarray(seconds) + 1.0)
    return [
        Epoch(start_s=float(end - taken), end_s=float(end), num_samples=num_samples)
        for end, taken in zip(ends, seconds, strict=True)
    ]


def series(level: float, seed: int = 0, warmup: float = 3.0) -> list[float]:
    return [warmup, *(level * (1 + 0.01 * np.random.default_rng(seed).uniform(-1, 1, NUM_EPOCHS - 1)))]


def serial(level: float, seed: int, *, threads: int = 1, batch: int = 64, num_samples: int = 100) -> Serial:
    return Serial(epochs=epochs(series(level, seed), num_samples), num_threads=threads, batch=batch)


def timed(parallel_s: float = 0.55, num_cores: int = 2, **levels: float) -> Timing:
    baselines: dict[BaselineName, Serial] = {
        "one share": serial(levels.get("share", 1.0), 1),
        "whole machine": serial(levels.get("whole", 0.7), 2, threads=2),
        "per-rank batch": serial(levels.get("small", 1.05), 3, batch=32),
    }
    return summarise(
        parallel=[epochs(series(parallel_s, 4)), epochs(series(parallel_s, 4))],
        baselines=baselines,
        aa=(series(1.0, 5), series(levels.get("again", 1.0), 6)),
        world_size=2,
        num_cores=num_cores,
        num_warmup=1,
    )


def test_the_three_baselines_stand_side_by_side() -> None:
    timing = timed()
    assert [baseline.name for baseline in timing.baselines] == ["one share", "whole machine", "per-rank batch"]
    assert [baseline.speedup.median for baseline in timing.baselines] == pytest.approx([1.82, 1.27, 1.91], abs=0.03)
    assert [baseline.num_threads for baseline in timing.baselines] == [1, 2, 1]
    assert [baseline.batch for baseline in timing.baselines] == [64, 64, 32]
    assert timing.speedup == timing.baselines[0].speedup
    assert timing.efficiency is not None
    assert timing.efficiency.median == pytest.approx(0.91, abs=0.02)
    assert timing.aa is not None
    assert timing.aa.low <= 1 <= timing.aa.high
    assert timing.warnings == ()


def test_warm_up_is_kept_apart_and_not_hidden() -> None:
    timing = timed()
    assert timing.warmup_s == (3.0,)
    assert [baseline.warmup_s[0] for baseline in timing.baselines] == pytest.approx([3.0] * 3)
    assert len(timing.epoch_wall_s) == len(timing.epoch_s[0]) == len(timing.baselines[0].epoch_s) == NUM_EPOCHS - 1
    assert max(timing.epoch_wall_s) < 1


def test_samples_a_second_count_the_whole_batch_over_the_slowest_rank() -> None:
    fast, slow = epochs([0.5] * 8), epochs([0.5] * 8)
    slow = [msgspec.structs.replace(epoch, end_s=epoch.end_s + 0.5) for epoch in slow]
    timing = summarise(parallel=[fast, slow], baselines={}, world_size=2, num_cores=2, num_warmup=2)
    assert timing.samples_per_s == pytest.approx(100.0)
    assert timing.epoch_wall_s == pytest.approx([1.0] * 6)
    assert (timing.speedup, timing.efficiency, timing.aa) == (None, None, None)


def test_weak_scaling_compares_seconds_a_sample() -> None:
    """Twice the samples in the same time on two ranks is a speed-up of 2."""
    twice = [msgspec.structs.replace(epoch, num_samples=200) for epoch in epochs(series(1.0, 4))]
    timing = summarise(
        parallel=[twice, twice],
        baselines={"one share": serial(1.0, 4)},
        world_size=2,
        num_cores=2,
        num_warmup=1,
        scaling="weak",
    )
    assert timing.speedup is not None
    assert timing.speedup.median == pytest.approx(2.0)
    assert timing.scaling == "weak"


def test_ranks_that_share_cores_get_no_efficiency() -> None:
    timing = timed(num_cores=1)
    assert timing.efficiency is None
    assert timing.speedup is not None
    assert (
        "2 ranks share 1 core: times show the cost of sharing, not scaling; no efficiency is given" in timing.warnings
    )


def test_more_than_linear_is_explained_by_the_smaller_batch() -> None:
    """The trap: a naive script shows 2.14x on two cores whose limit is 1.83x."""
    (told,) = timed(parallel_s=1 / 2.14, small=1.83 / 2.14).warnings
    assert told.startswith(
        "speed-up 2.14 on 2 ranks is above linear: the baseline 'serial at the per-rank batch' shows"
    )
    assert "over that one it is 1.8" in told


def test_more_than_linear_over_the_smaller_batch_too_is_not_explained_away() -> None:
    (told,) = timed(parallel_s=0.3).warnings
    assert "the smaller batch does not explain it" in told
    share = {"one share": Interval(median=2.5, low=2.4, high=2.6)}
    assert "to see whether the smaller batch" in speedup_warnings(share, None, 2, 2)[0]  # type: ignore[arg-type]


def test_a_machine_that_differs_from_itself_resolves_nothing_smaller() -> None:
    (told,) = timed(again=0.9).warnings
    assert told.startswith("serial against itself shows 1.11x")
    assert "cannot resolve differences of" in told


def test_beating_one_share_but_not_the_whole_machine_is_said() -> None:
    (told,) = timed(whole=0.4).warnings
    assert "slower than serial on the whole machine (0.7" in told
    (told,) = timed(whole=0.55).warnings
    assert "not measurably faster than serial on the whole machine (1.0" in told
    assert timed(parallel_s=1.2, whole=0.4).warnings == (), "a run slower than one share pretends nothing"


def test_runs_that_were_not_interleaved_are_bad_input() -> None:
    short = {"one share": Serial(epochs=epochs([1.0] * 3), num_threads=1, batch=64)}
    with pytest.raises(UsageError, match=r"got {'rank 0': 4, 'one share': 3}; interleave"):
        summarise(
            parallel=[epochs([1.0] * 4)],
            baselines=short,  # type: ignore[arg-type]
            world_size=2,
            num_cores=2,
            num_warmup=1,
        )
    with pytest.raises(UsageError, match="more than 4 of warm-up"):
        summarise(parallel=[epochs([1.0] * 4)], baselines={}, world_size=2, num_cores=2, num_warmup=4)
