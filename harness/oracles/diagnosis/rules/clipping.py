"""What is told by gradients that are right before clipping and wrong after it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from harness.oracles.diagnosis.base import CERTAIN, LIKELY, Finding, rule, same, subject, times
from harness.oracles.diagnosis.scene import Scene, Struck, ratio
from harness.oracles.reasons import number
from harness.oracles.tables import Floats
from harness.record import Rung

_BEFORE: Rung = "gradients before clipping"


@rule("gradients after clipping")
def clipped(scene: Scene) -> Finding | None:
    """What clipping makes of the right gradient."""
    before = [values for values in scene.taken(_BEFORE, scene.step) if values is not None]
    if len(before) < len(scene.struck):
        return None
    if scene.explained(before):
        return Finding(
            cause="clip-skipped",
            strength=CERTAIN,
            words=f"{subject(scene, 'gradient')} is the same before and after clipping: it is not clipped",
        )
    length, limit = _length(scene), scene.workload.clip_norm
    if limit is None:
        return None
    factor = ratio([one.values for one in scene.struck], before)
    if factor > 1e-9 and scene.explained([factor * values for values in before]):
        used = limit / factor
        return Finding(
            cause="clip-wrong-norm",
            strength=CERTAIN,
            words=f"{subject(scene, 'gradient')} is clipped as if the norm were {number(used)}, but it is "
            f"{number(length)} ({times(used / length)}{_guess(scene, used / length)})",
        )
    for what, key in (("rank", lambda one: one.piece.rank), ("tensor", lambda one: one.piece.name)):
        factors = _apart(scene, before, key)
        if factors:
            told = " and ".join(number(limit / factor) for factor in factors[:3])
            return Finding(
                cause="clip-wrong-norm",
                strength=CERTAIN,
                words=f"each {what} is clipped by a norm of its own ({told}), the whole gradient's is {number(length)}",
            )
    return None


def _length(scene: Scene) -> float:
    """Return the norm of the reference's whole gradient before clipping."""
    found = (scene.reference(_BEFORE, scene.step, t.name) for t in scene.comparison.tensors if t.trainable)
    return float(np.sqrt(sum(float(np.square(values).sum()) for values in found if values is not None)))


def _guess(scene: Scene, over: float) -> str:
    world = scene.context.world_size
    if same(over, world**0.5):
        return f": every rank's copy is counted, {world} in all"
    return ": only a part of it is counted" if over < 1 else ""


def _apart(scene: Scene, before: Sequence[Floats], key: Callable[[Struck], Hashable]) -> list[float]:
    """Return the factor of each rank (or tensor) where each has one; nothing where not."""
    groups: dict[Hashable, list[int]] = {}
    for i, one in enumerate(scene.struck):
        groups.setdefault(key(one), []).append(i)
    factors = []
    for members in groups.values():
        parts, old = [scene.struck[i] for i in members], [before[i] for i in members]
        factors.append(ratio([one.values for one in parts], old))
        if sum(one.places.size for one in parts) < 2 or factors[-1] < 1e-9:
            return []
        if not scene.explained([factors[-1] * values for values in old], parts):
            return []
    return factors if len(factors) > 1 else []


@rule("gradients after clipping")
def zero(scene: Scene) -> Finding | None:
    """Nothing is left."""
    if any(one.values.any() for one in scene.struck):
        return None
    return Finding(
        cause="clip-wrong-norm",
        strength=LIKELY,
        words=f"{subject(scene, 'gradient')} is zero after clipping: the norm it is divided by is infinite",
    )
