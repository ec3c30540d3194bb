"""Does a training repeat itself? The same run twice, compared bit for bit.

What varies by itself makes a floor of any height, under which every bug would pass: it is said by name and not judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from harness.oracles.reasons import not_repeated
from harness.oracles.tables import layout
from harness.record import LADDER, Rung, RungFile, Trace, Verdict
from harness.recorder import read

REFERENCE = "the reference"


@dataclass(frozen=True, kw_only=True, slots=True)
class Variation:
    """The first place where two runs of one training are not the same; ``tensor`` is empty where they lack a rung."""

    rung: Rung
    step: int
    tensor: str


def require(verdict: Verdict, reference: Trace, again: Trace, who: str = REFERENCE) -> Verdict:
    """Return the verdict, which is inconclusive where ``who`` (for its words) does not repeat itself."""
    found = varied(reference, again)
    if found is None:
        return verdict
    reason = not_repeated(who, found.rung, found.step, found.tensor)
    return msgspec.structs.replace(
        verdict, conclusion="inconclusive", reason=reason, divergence=None, diagnosis=None, power=None
    )


def varied(first: Trace, again: Trace) -> Variation | None:
    """Return where ``again`` leaves ``first``, the earliest step and in it the first rung of the ladder, or None.

    Raises:
        TraceError: a file is unreadable.
    """
    found = []
    for place, rung in enumerate(LADDER):
        one, other = first.rungs.get(rung), again.rungs.get(rung)
        variation = _between(rung, one, other) if one is not None or other is not None else None
        if variation is not None:
            found.append((variation.step, place, variation))
    return min(found, key=lambda entry: entry[:2])[2] if found else None


def _between(rung: Rung, one: RungFile | None, other: RungFile | None) -> Variation | None:
    if one is None or other is None or (one.steps, one.tensors) != (other.steps, other.tensors):
        steps = [file.steps[0] for file in (one, other) if file is not None and file.steps]
        return Variation(rung=rung, step=min(steps, default=-1), tensor="")
    if not one.steps:
        return None
    columns = layout(one)
    for row, values in enumerate(zip(read(one), read(other), strict=True)):
        before, after = (np.asarray(side, dtype=np.float64) for side in values)
        unlike = np.flatnonzero((before != after) & ~(np.isnan(before) & np.isnan(after)))
        if unlike.size:
            tensor = int(np.searchsorted(columns.starts, unlike[0], side="right")) - 1
            return Variation(rung=rung, step=one.steps[row], tensor=columns.tensors[tensor].name)
    return None
