"""From interleaved epochs to a timing: speed-ups over three baselines, and what must be said about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import UsageError
from harness.measure.breakdown import breakdown, breakdown_warnings
from harness.measure.epochs import Ranks, durations, series_warnings, walls
from harness.measure.losses import losses
from harness.measure.sound import require_sound
from harness.measure.statistics import efficiency, paired_ratio
from harness.timings import Baseline, BaselineName, Claim, Interval, Scaling, Timing

MEANING: dict[BaselineName, str] = {
    "one share": "serial on one rank's share of the machine",
    "whole machine": "serial on the whole machine",
    "per-rank batch": "serial at the per-rank batch",
    "independent": "as many serial runs at once",
    "again": "serial on one rank's share, again",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Serial:
    """The epochs of one or several serial trainings, a row each, warm-up included, and what each was allowed to use."""

    rows: Ranks
    num_threads: int
    batch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What times were taken on: ranks, cores of the machine, epochs of warm-up, and the kind of scaling."""

    world_size: int
    num_cores: int
    num_warmup: int
    scaling: Scaling = "strong"
    # Whether the parts of a rank's time can be held against those of a serial run on a rank's share of the batch.
    comparable: bool = True


def summarise(
    *,
    parallel: Ranks,
    baselines: Mapping[BaselineName, Serial],
    setting: Setting,
    num_steps: int = 1,
    aa: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Timing:
    """Return the figures of one strategy timed in turn with its baselines (A B C D A B C D ...).

    ``parallel`` holds a row per rank, an epoch per column. The first epochs of every run are kept apart as warm-up.
    Epoch i of every run belongs together; ratios are of seconds per sample, so that weak scaling compares like with
    like. ``aa`` holds the seconds of two equal serial runs, interleaved, warm-up included: their ratio is what this
    machine can resolve, and a smaller claim is inconclusive. Efficiency is None where ranks had to share cores.

    Raises:
        UsageError: the runs have different numbers of epochs, or none after the warm-up, or times no clock can show.
    """
    _require_same_length(parallel, baselines, setting.num_warmup)
    for rows in (parallel, *(run.rows for run in baselines.values())):
        require_sound(rows)
    timed = [list(rank)[setting.num_warmup :] for rank in parallel]
    wall_s, own = walls(timed), costs(parallel, setting.num_warmup)
    itself = paired_ratio(*(side[setting.num_warmup :] for side in aa)) if aa is not None else None
    finest = None if itself is None else resolution(itself)
    judged = tuple(_baseline(name, run, own, setting.num_warmup, finest) for name, run in baselines.items())
    speedups = {baseline.name: baseline.speedup for baseline in judged}
    speedup, over = speedups.get("one share"), fairest(speedups)
    alone = baselines.get("independent")
    parts = breakdown(
        timed,
        [list(row)[setting.num_warmup :] for row in alone.rows] if alone and setting.comparable else None,
        num_steps=num_steps,
    )
    spent = {name: costs(run.rows, setting.num_warmup, num_trainings=len(run.rows)) for name, run in baselines.items()}
    shared = setting.world_size > setting.num_cores
    series: dict[str, Sequence[float]] = {"parallel": wall_s}
    series |= {MEANING[baseline.name]: baseline.epoch_s for baseline in judged}
    told = [warning for name, samples in series.items() for warning in series_warnings(name, samples)]
    return Timing(
        epoch_s=durations(timed),
        epoch_wall_s=wall_s,
        warmup_s=walls([list(rank)[: setting.num_warmup] for rank in parallel]) if setting.num_warmup else (),
        num_samples=timed[0][0].num_samples,
        samples_per_s=float(1 / np.median(own)),
        baselines=judged,
        speedup=speedup,
        efficiency=efficiency(speedups[over], setting.world_size) if speedup and not shared else None,
        efficiency_over=over,
        claim=claim(speedup, finest) if speedup else None,
        aa=itself,
        resolution=finest,
        scaling=setting.scaling,
        oversubscribed=shared,
        breakdown=parts,
        losses=losses(own, spent, setting.world_size, parts) if not shared else (),
        warnings=(
            *told,
            *speedup_warnings(speedups, itself, setting.world_size, setting.num_cores),
            *(breakdown_warnings(parts) if parts else ()),
        ),
    )


def fairest(speedups: Mapping[BaselineName, Interval]) -> BaselineName:
    """Return the faster of the serial runs on one share, so that a smaller batch does not pass for efficiency."""
    share, small = speedups.get("one share"), speedups.get("per-rank batch")
    return "per-rank batch" if share and small and small.median < share.median else "one share"


def resolution(aa: Interval) -> float:
    """Return the relative difference below which nothing is told apart, given serial against serial."""
    return max(abs(aa.low - 1), abs(aa.high - 1))


def claim(speedup: Interval, finest: float | None) -> Claim:
    """Return what may be said of a speed-up: its interval must exclude 1, and it must exceed what can be resolved."""
    if abs(speedup.median - 1) <= (finest or 0.0) or speedup.low <= 1 <= speedup.high:
        return "inconclusive"
    return "faster" if speedup.median > 1 else "slower"


def speedup_warnings(
    speedups: Mapping[BaselineName, Interval], aa: Interval | None, world_size: int, num_cores: int
) -> list[str]:
    """Return in words what would mislead a reader of these speed-ups."""
    told = []
    if aa is not None and not aa.low <= 1 <= aa.high:
        told.append(
            f"serial against itself shows {_figure(aa)}, which excludes 1: fresh processes are not alike here, or the "
            f"machine is not steady; differences of {100 * resolution(aa):.1f} % or less are not resolved"
        )
    if world_size > num_cores:
        told.append(
            f"{world_size} ranks share {num_cores} core{'s' * (num_cores != 1)}: times show the cost of sharing, not "
            "scaling; no efficiency is given"
        )
    share = speedups.get("one share")
    if share is not None and share.median > world_size:
        told.append(_superlinear(share, speedups.get("per-rank batch"), world_size))
    whole = speedups.get("whole machine")
    if share is not None and whole is not None and share.low > 1 and whole.low <= 1:
        faster = "slower than" if whole.high < 1 else "not measurably faster than"
        told.append(
            f"{_figure(share)} over {MEANING['one share']}, but {faster} {MEANING['whole machine']} "
            f"({_figure(whole)}): one process with all cores does as well"
        )
    return told


def _superlinear(share: Interval, small: Interval | None, world_size: int) -> str:
    start = f"speed-up {share.median:.2f} on {world_size} ranks is above linear: "
    if small is None:
        return f"{start}time {MEANING['per-rank batch']} to see whether the smaller batch, not the ranks, is faster"
    if small.median <= world_size:
        return (
            f"{start}the baseline '{MEANING['per-rank batch']}' shows that the smaller batch itself is faster; over "
            f"that one it is {_figure(small)}"
        )
    return (
        f"{start}it is {_figure(small)} over '{MEANING['per-rank batch']}', too, so the smaller batch does not "
        "explain it; look for caches, for work that is left out, or for a slow baseline"
    )


def _figure(figure: Interval) -> str:
    return f"{figure.median:.2f}x [{figure.low:.2f}, {figure.high:.2f}]"


def _baseline(
    name: BaselineName, run: Serial, parallel: Sequence[float], num_warmup: int, finest: float | None
) -> Baseline:
    seconds = walls(run.rows)
    speedup = paired_ratio(costs(run.rows, num_warmup, num_trainings=len(run.rows)), parallel)
    return Baseline(
        name=name,
        epoch_s=seconds[num_warmup:],
        warmup_s=seconds[:num_warmup],
        num_threads=run.num_threads,
        batch=run.batch,
        speedup=speedup,
        num_processes=len(run.rows),
        claim=claim(speedup, finest),
    )


def costs(rows: Ranks, num_warmup: int, *, num_trainings: int = 1) -> list[float]:
    """Return seconds per sample of each timed epoch, over the samples of so many trainings."""
    timed = [list(row)[num_warmup:] for row in rows]
    samples = [epoch.num_samples * num_trainings for epoch in timed[0]]
    return [wall / count for wall, count in zip(walls(timed), samples, strict=True)]


def _require_same_length(parallel: Ranks, baselines: Mapping[BaselineName, Serial], num_warmup: int) -> None:
    counts = {f"rank {i}": len(rank) for i, rank in enumerate(parallel)}
    counts |= {name: len(row) for name, run in baselines.items() for row in run.rows}
    if not parallel or len(set(counts.values())) > 1 or min(counts.values()) <= num_warmup:
        raise UsageError(
            f"expected the same number of epochs of every run, more than {num_warmup} of warm-up, but got {counts}; "
            "interleave the runs epoch by epoch"
        )
