"""Where a speed-up's share of the ideal went: to the batch, to the machine, to waiting for other ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.measure.statistics import efficiency, paired_ratio
from harness.timings import BaselineName, Breakdown, Interval, Loss

Costs = Sequence[float]
# A loss that is surely less than that is none.
_NOTHING = 0.01


def losses(
    parallel: Costs, serial: Mapping[BaselineName, Costs], world_size: int, breakdown: Breakdown | None
) -> tuple[Loss, ...]:
    """Return the factors that lead from ``world_size`` to the speed-up over serial on one share.

    All are seconds a sample of epochs that ran in turns; those of ``independent`` count the samples of all its
    trainings. The factors are ratios of neighbours in this chain, so that they multiply to the speed-up:

        one share ──batch──> per-rank batch ──machine──> as many trainings at once, alone ──ranks──> parallel

    Empty where a link of the chain was not measured.
    """
    if not {"one share", "independent"} <= serial.keys():
        return ()
    share, alone = serial["one share"], serial["independent"]
    # In weak scaling the serial run trains at the per-rank batch anyway.
    small = serial.get("per-rank batch", share)
    found = []
    if small is not share:
        gain = paired_ratio(share, small)
        found.append(Loss(name="batch", factor=gain, words=_batch(gain)))
    machine = efficiency(paired_ratio(small, alone), world_size)
    found.append(Loss(name="machine", factor=machine, words=_machine(machine, world_size)))
    ranks = paired_ratio(alone, parallel)
    return (*found, Loss(name="ranks", factor=ranks, words=_ranks(ranks, breakdown)))


def allowed(found: Sequence[Loss], world_size: int) -> float | None:
    """Return the speed-up that batch and machine allow: what the same work reaches without other ranks to wait for."""
    factors = [loss.factor.median for loss in found if loss.name != "ranks"]
    return float(world_size * np.prod(factors)) if factors else None


def _percent(factor: Interval) -> str:
    told = _change(factor.median)
    if factor.low > 1 or factor.high < 1:
        return told
    if max(abs(factor.low - 1), abs(factor.high - 1)) < _NOTHING:
        return "about 0"
    return f"not resolved ({told}, between {_change(factor.low)} and {_change(factor.high)})"


def _change(factor: float) -> str:
    return f"{_share(abs(factor - 1))} {'gained' if factor > 1 else 'lost'}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _batch(factor: Interval) -> str:
    return f"{_percent(factor)}: a sample costs a rank's smaller batch {1 / factor.median:.3g} of what it costs serial"


def _machine(factor: Interval, world_size: int) -> str:
    return (
        f"{_percent(factor)}: {world_size} serial trainings at once, which have nothing to do with each other, reach "
        f"{world_size * factor.median:.2f} times one of them on this machine"
    )


def _ranks(factor: Interval, breakdown: Breakdown | None) -> str:
    start = f"{_percent(factor)}: the parallel run against as many serial trainings at its batch"
    if breakdown is None or breakdown.exposed is None or not breakdown.ranks:
        return start
    epoch_s = max(sum(parts.values()) for parts in breakdown.ranks)
    idle = max(parts.get("idle", 0.0) for parts in breakdown.ranks)
    return (
        f"{start}; communication that computing does not hide takes {_share(breakdown.exposed.median / epoch_s)} of "
        f"the slowest rank's time, waiting for the slowest up to {_share(idle / epoch_s)}"
    )
