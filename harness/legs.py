"""An equality check that is interrupted: its legs, the reference during one of them, and their joint verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from harness.record import Rung, RungFile, Trace, Verdict
from harness.recorder import read, save
from harness.spec import Leg, Workload

# What is there before a step is trained: it belongs to the leg that begins with that step, too.
_STANDING: frozenset[Rung] = frozenset({"parameters"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A leg and the number of ranks that run it."""

    leg: Leg
    world_size: int


def stages(workload: Workload, world_size: int, checkpoint: Path) -> tuple[Stage, ...]:
    """Return the legs of the workload's check; ``checkpoint`` is the folder between them."""
    check = workload.check
    if check.resume_at is None:
        return ()
    before = Leg(first=0, last=check.resume_at, save=str(checkpoint))
    after = Leg(first=check.resume_at, last=check.num_steps, load=str(checkpoint))
    return Stage(leg=before, world_size=world_size), Stage(leg=after, world_size=check.resume_ranks or world_size)


def uninterrupted(workload: Workload) -> Workload:
    """Return the workload that a reference trains: the same one in one go."""
    check = msgspec.structs.replace(workload.check, resume_at=None, resume_ranks=None)
    return msgspec.structs.replace(workload, check=check)


def during(trace: Trace, leg: Leg, folder: Path) -> Trace:
    """Return what a trace shows of a leg's steps, its tables copied to ``folder``; predictions only of its last."""
    rungs = {rung: part for rung, file in trace.rungs.items() if (part := _during(rung, file, leg, folder)).steps}
    return msgspec.structs.replace(trace, rungs=rungs)


def _during(rung: Rung, file: RungFile, leg: Leg, folder: Path) -> RungFile:
    first = leg.first - 1 if rung in _STANDING else leg.first
    rows = [row for row, step in enumerate(file.steps) if first <= step < leg.last]
    path = folder / Path(file.file).name
    if rows:
        save(path, [[values] for values in np.asarray(read(file))[rows]])
    return msgspec.structs.replace(file, file=str(path), steps=tuple(file.steps[row] for row in rows))


def joint(verdicts: Sequence[Verdict], legs: Sequence[Stage]) -> Verdict:
    """Return the first verdict that is no pass, else the last; either says that there was an interruption."""
    number = next((i for i, verdict in enumerate(verdicts) if not verdict.equivalent), len(verdicts) - 1)
    verdict, stage = verdicts[number], legs[number]
    where = (
        f"before it was saved at step {stage.leg.last}"
        if stage.leg.save
        else f"saved at step {stage.leg.first} by {legs[0].world_size} ranks and resumed by {stage.world_size}"
    )
    return msgspec.structs.replace(
        verdict,
        reason=f"{verdict.reason} ({where})",
        margin=max((found.margin for found in verdicts[: number + 1] if found.margin is not None), default=None),
        curve=tuple(point for found in verdicts for point in found.curve),
        losses=tuple(losses for found in verdicts for losses in found.losses),
        # Mutants are run with the first leg only.
        power=next((found.power for found in verdicts if found.power is not None), None),
    )
