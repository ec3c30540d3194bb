"""Where the time of an epoch goes, rank by rank, and how much of it is communication that computing does not hide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.measure.epochs import walls
from harness.measure.statistics import Floats, interval
from harness.timings import Breakdown, Epoch, Interval, Part

Rows = Sequence[Sequence[Epoch]]
Parts = dict[Part, float]

# In the order of a step.
PARTS: tuple[Part, ...] = ("data", "forward", "backward", "communication", "optimizer", "step", "idle", "other")
# Where other ranks are waited for, seen or unseen: a library hides communication inside backward, or in a whole step.
JOINT: tuple[Part, ...] = ("forward", "backward", "communication", "step")
# Parts that add up to less of an epoch, or to more, leave its time unexplained.
UNACCOUNTED = 0.05


def breakdown(parallel: Rows, alone: Rows | None, *, num_steps: int) -> Breakdown | None:
    """Return the mean seconds of every part, a row a rank; None where no rank tells its parts.

    ``parallel`` holds a row per process, timed epochs only. ``alone`` holds the same of as many serial trainings at the
    per-rank batch that ran at once, each on all samples: their seconds are divided by the number of ranks, whose work
    is then the same; None where ranks do other work, as in a pipeline. Epoch i of all belongs together.

    A rank is idle from its own end to that of the slowest one, and where it starts later than the first. The row of a
    process that tells no parts, as its work is handed out and measured by another, is empty.
    """
    told = [rank for rank in parallel if all(epoch.parts for epoch in rank)]
    if not told:
        return None
    wall_s = walls(parallel)
    rows = [_row(rank, wall_s) for rank in parallel]
    epoch_s = float(np.mean(wall_s))
    accounted = [1 - row.get("other", 0.0) / epoch_s for row in rows if row]
    comparable = alone is not None and len(told) == len(parallel) == len(alone)
    return Breakdown(
        ranks=tuple(rows),
        alone=_scaled(_mean_row(alone), 1 / len(parallel)) if alone and comparable else {},
        num_steps=num_steps,
        accounted=min(accounted),
        exposed=exposed(parallel, alone) if alone and comparable else None,
    )


def exposed(parallel: Rows, alone: Rows) -> Interval:
    """Return the seconds an epoch by which ranks take longer in forward, backward and communication than alone.

    Each rank against the serial training on its own share of the machine; of these the least: what others wait for the
    slowest rank is idleness, not communication. It is communication at least, as noise can only make the least smaller.
    """
    longer = [_joint(rank) - _joint(serial) / len(parallel) for rank, serial in zip(parallel, alone, strict=True)]
    return interval([float(seconds) for seconds in min(longer, key=_total)])


def breakdown_warnings(found: Breakdown) -> list[str]:
    """Return in words what a breakdown does not explain."""
    told = []
    if abs(1 - found.accounted) > UNACCOUNTED:
        told.append(
            f"the parts of an epoch add up to {found.accounted:.0%} of its time: where the rest goes is not measured"
        )
    if found.exposed is not None and found.exposed.high < 0:
        told.append(
            "ranks take less time to compute and communicate than serial trainings take to compute the same: these "
            "stood in each other's way more than the ranks do, so no communication can be told from it"
        )
    return told


def _row(rank: Sequence[Epoch], wall_s: Sequence[float]) -> Parts:
    """Return the mean seconds of each part of one process, in the order of a step."""
    if not all(epoch.parts for epoch in rank):
        return {}
    idle_s = [wall - (epoch.end_s - epoch.start_s) for epoch, wall in zip(rank, wall_s, strict=True)]
    found = _mean_row([rank]) | {"idle": float(np.mean(idle_s))}
    return {part: found[part] for part in PARTS if part in found}


def _mean_row(rows: Rows) -> Parts:
    """Return the mean seconds of each part over all epochs of some processes."""
    epochs = [epoch.parts for rank in rows for epoch in rank]
    known = [part for part in PARTS if any(part in own for own in epochs)]
    return {part: sum(own.get(part, 0.0) for own in epochs) / len(epochs) for part in known}


def _scaled(row: Parts, by: float) -> Parts:
    return {part: seconds * by for part, seconds in row.items()}


def _joint(rank: Sequence[Epoch]) -> Floats:
    """Return the seconds of each epoch in which this process may wait for others, by whatever name."""
    return np.array([sum(epoch.parts.get(part, 0.0) for part in JOINT) for epoch in rank])


def _total(seconds: Floats) -> float:
    return float(seconds.sum())
