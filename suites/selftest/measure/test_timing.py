"""Epoch times become speed-ups over named baselines, and misleading ones are said to mislead."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from harness.errors import UsageError
from harness.measure.losses import losses
from harness.measure.timing import Serial, Setting, claim, fairest, resolution, speedup_warnings, summarise
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
    return Serial(rows=[epochs(series(level, seed), num_samples)], num_threads=threads, batch=batch)


def on(*, num_cores: int = 2, num_warmup: int = 1) -> Setting:
    return Setting(world_size=2, num_cores=num_cores, num_warmup=num_warmup)


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
        setting=on(num_cores=num_cores),
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
    timing = summarise(parallel=[fast, slow], baselines={}, setting=on(num_warmup=2))
    assert timing.samples_per_s == pytest.approx(100.0)
    assert timing.epoch_wall_s == pytest.approx([1.0] * 6)
    assert (timing.speedup, timing.efficiency, timing.aa) == (None, None, None)


def test_weak_scaling_compares_seconds_a_sample() -> None:
    """Twice the samples in the same time on two ranks is a speed-up of 2."""
    twice = [msgspec.structs.replace(epoch, num_samples=200) for epoch in epochs(series(1.0, 4))]
    timing = summarise(
        parallel=[twice, twice],
        baselines={"one share": serial(1.0, 4)},
        setting=Setting(world_size=2, num_cores=2, num_warmup=1, scaling="weak"),
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
    timing = timed(parallel_s=1 / 2.14, small=1.83 / 2.14)
    assert timing.efficiency_over == "per-rank batch"
    assert timing.efficiency is not None
    assert timing.efficiency.median == pytest.approx(1.83 / 2, abs=0.02), "not 107 %"
    (told,) = timing.warnings
    assert told.startswith(
        "speed-up 2.14 on 2 ranks is above linear: the baseline 'serial at the per-rank batch' shows"
    )
    assert "over that one it is 1.8" in told


def test_efficiency_is_over_the_faster_serial_run_however_wide_its_interval() -> None:
    wide = {"one share": [1.9, 2.3], "per-rank batch": [1.7, 2.12]}
    speedups = {name: Interval(median=sum(ends) / 2, low=ends[0], high=ends[1]) for name, ends in wide.items()}
    assert fairest(speedups) == "per-rank batch"  # type: ignore[arg-type]
    assert fairest({"one share": speedups["one share"]}) == "one share"


def test_more_than_linear_over_the_smaller_batch_too_is_not_explained_away() -> None:
    (told,) = timed(parallel_s=0.3).warnings
    assert "the smaller batch does not explain it" in told
    share = {"one share": Interval(median=2.5, low=2.4, high=2.6)}
    assert "to see whether the smaller batch" in speedup_warnings(share, None, 2, 2)[0]  # type: ignore[arg-type]


def test_a_machine_that_differs_from_itself_resolves_nothing_smaller() -> None:
    (told,) = timed(again=0.9).warnings
    assert told.startswith("serial against itself shows 1.11x")
    assert "differences of 1" in told
    assert "% or less are not resolved" in told


def test_beating_one_share_but_not_the_whole_machine_is_said() -> None:
    (told,) = timed(whole=0.4).warnings
    assert "slower than serial on the whole machine (0.7" in told
    (told,) = timed(whole=0.55).warnings
    assert "not measurably faster than serial on the whole machine (1.0" in told
    assert timed(parallel_s=1.2, whole=0.4).warnings == (), "a run slower than one share pretends nothing"


def test_runs_that_were_not_interleaved_are_bad_input() -> None:
    short = {"one share": Serial(rows=[epochs([1.0] * 3)], num_threads=1, batch=64)}
    with pytest.raises(UsageError, match=r"got {'rank 0': 4, 'one share': 3}; interleave"):
        summarise(
            parallel=[epochs([1.0] * 4)],
            baselines=short,  # type: ignore[arg-type]
            setting=on(),
        )
    with pytest.raises(UsageError, match="more than 4 of warm-up"):
        summarise(parallel=[epochs([1.0] * 4)], baselines={}, setting=on(num_warmup=4))


def test_a_claim_smaller_than_the_machine_resolves_is_inconclusive() -> None:
    aa = Interval(median=1.0, low=0.97, high=1.02)
    assert resolution(aa) == pytest.approx(0.03)
    two_percent = Interval(median=1.02, low=1.01, high=1.03)
    assert claim(two_percent, resolution(aa)) == "inconclusive"
    assert claim(two_percent, 0.01) == "faster"
    assert claim(Interval(median=1.2, low=0.99, high=1.4), 0.01) == "inconclusive"
    assert claim(Interval(median=0.8, low=0.7, high=0.9), 0.03) == "slower"


def test_as_many_serial_runs_at_once_are_one_baseline_over_all_their_samples() -> None:
    """Each of two takes 1.1 s where one alone takes 1 s: the machine's limit is 1.82x of one."""
    rows = [epochs(series(1.1, 8)), epochs(series(1.1, 8))]
    timing = summarise(
        parallel=[epochs(series(0.6, 4)), epochs(series(0.6, 4))],
        baselines={
            "one share": serial(1.05, 1),
            "per-rank batch": serial(1.0, 3, batch=32),
            "independent": Serial(rows=rows, num_threads=1, batch=32),
        },
        setting=on(),
    )
    independent = timing.baselines[-1]
    assert (independent.num_processes, independent.name) == (2, "independent")
    assert independent.speedup.median == pytest.approx(0.55 / 0.6, abs=0.01)
    batch, machine, ranks = timing.losses
    assert [loss.name for loss in timing.losses] == ["batch", "machine", "ranks"]
    assert batch.factor.median == pytest.approx(1.05, abs=0.01)
    assert 2 * machine.factor.median == pytest.approx(1.82, abs=0.02)
    assert "reach 1.8" in machine.words
    assert timing.speedup is not None
    product = 2 * batch.factor.median * machine.factor.median * ranks.factor.median
    assert product == pytest.approx(timing.speedup.median, rel=0.02)


@pytest.mark.parametrize(
    ("times", "told"),
    [
        ((1.0, 1.001, 0.999), "about 0: "),
        ((1.0, 1.2, 0.8, 1.1, 0.9), "not resolved (0.0 % lost, between 20.0 % lost and 20.0 % gained): "),
        ((1.1, 1.1, 1.1), "10.0 % gained: "),
    ],
)
def test_a_loss_is_called_nothing_only_where_it_surely_is(times: tuple[float, ...], told: str) -> None:
    alone = (1.0,) * len(times)
    batch = losses(alone, {"one share": times, "per-rank batch": alone, "independent": alone}, 2, None)[0]
    assert batch.words.startswith(told)
