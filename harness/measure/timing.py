"""From interleaved epochs to a timing: speed-ups over three baselines, and what must be said about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.errors import UsageError
from harness.measure.epochs import Ranks, durations, series_warnings, walls
from harness.measure.statistics import efficiency, paired_ratio
from harness.timings import Baseline, BaselineName, Epoch, Interval, Timing

MEANING: dict[BaselineName, str] = {
    "one share": "serial on one rank's share of the machine",
    "whole machine": "serial on the whole machine",
    "per-rank batch": "serial at the per-rank batch",
    "again": "serial on one rank's share, again",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Serial:
    """The epochs of one serial run, warm-up included, and what it was allowed to use."""

    epochs: Sequence[Epoch]
    num_threads: int
    batch: int


def summarise(
    *,
    parallel: Ranks,
    baselines: Mapping[BaselineName, Serial],
    world_size: int,
    num_cores: int,
    num_warmup: int,
    aa: tuple[Sequence[float], Sequence[float]] | None = None,
    scaling: Literal["strong", "weak"] = "strong",
) -> Timing:
    """Return the figures of one strategy timed in turn with its baselines (A B C D A B C D ...).

    ``parallel`` holds a row per rank, an epoch per column. The first ``num_warmup`` epochs of every run are kept apart.
    Epoch i of every run belongs together; ratios are of seconds per sample, so that weak scaling compares like with
    like. ``aa`` holds the seconds of two equal serial runs, interleaved, warm-up included: their ratio is what this
    machine can resolve. Efficiency is None where ranks had to share cores.

    Raises:
        UsageError: the runs have different numbers of epochs, or none after the warm-up.
    """
    _require_same_length(parallel, baselines, num_warmup)
    timed = [list(rank)[num_warmup:] for rank in parallel]
    wall_s = walls(timed)
    costs = [wall / rank_0.num_samples for wall, rank_0 in zip(wall_s, timed[0], strict=True)]
    judged = tuple(_baseline(name, run, costs, num_warmup) for name, run in baselines.items())
    speedups = {baseline.name: baseline.speedup for baseline in judged}
    speedup = speedups.get("one share")
    itself = paired_ratio(aa[0][num_warmup:], aa[1][num_warmup:]) if aa is not None else None
    series: dict[str, Sequence[float]] = {"parallel": wall_s}
    series |= {MEANING[baseline.name]: baseline.epoch_s for baseline in judged}
    told = [warning for name, samples in series.items() for warning in series_warnings(name, samples)]
    return Timing(
        epoch_s=durations(timed),
        epoch_wall_s=wall_s,
        warmup_s=walls([list(rank)[:num_warmup] for rank in parallel]) if num_warmup else (),
        num_samples=timed[0][0].num_samples,
        samples_per_s=float(1 / np.median(costs)),
        baselines=judged,
        speedup=speedup,
        efficiency=efficiency(speedup, world_size) if speedup and world_size <= num_cores else None,
        aa=itself,
        scaling=scaling,
        warnings=(*told, *speedup_warnings(speedups, itself, world_size, num_cores)),
    )


def speedup_warnings(
    speedups: Mapping[BaselineName, Interval], aa: Interval | None, world_size: int, num_cores: int
) -> list[str]:
    """Return in words what would mislead a reader of these speed-ups."""
    told = []
    if aa is not None and not aa.low <= 1 <= aa.high:
        off = 100 * max(aa.low - 1, 1 - aa.high)
        told.append(
            f"serial against itself shows {_figure(aa)}, which excludes 1: this machine is not steady now and cannot "
            f"resolve differences of {off:.1f} % or less; measure again on a quiet machine"
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


def _baseline(name: BaselineName, run: Serial, costs: Sequence[float], num_warmup: int) -> Baseline:
    seconds = [epoch.end_s - epoch.start_s for epoch in run.epochs]
    return Baseline(
        name=name,
        epoch_s=tuple(seconds[num_warmup:]),
        warmup_s=tuple(seconds[:num_warmup]),
        num_threads=run.num_threads,
        batch=run.batch,
        speedup=paired_ratio(_costs(run, num_warmup), costs),
    )


def _costs(run: Serial, num_warmup: int) -> list[float]:
    """Return seconds per sample of each timed epoch."""
    return [(epoch.end_s - epoch.start_s) / epoch.num_samples for epoch in list(run.epochs)[num_warmup:]]


def _require_same_length(parallel: Ranks, baselines: Mapping[BaselineName, Serial], num_warmup: int) -> None:
    counts = {f"rank {i}": len(rank) for i, rank in enumerate(parallel)}
    counts |= {name: len(run.epochs) for name, run in baselines.items()}
    if not parallel or len(set(counts.values())) > 1 or min(counts.values()) <= num_warmup:
        raise UsageError(
            f"expected the same number of epochs of every run, more than {num_warmup} of warm-up, but got {counts}; "
            "interleave the runs epoch by epoch"
        )
