"""What is told by a loss that is wrong although samples, weights and running statistics are right."""

from __future__ import annotations

import numpy as np

from harness.oracles.diagnosis.base import CERTAIN, GUESS, LIKELY, Finding, rule, same, times
from harness.oracles.diagnosis.factors import named
from harness.oracles.diagnosis.scene import Scene, ratio, struck
from harness.oracles.reasons import number

# Ranks' means, weighted alike, are no farther from the mean than this: shares differ by one sample.
_UNEVEN = 0.5


@rule("loss")
def scaled(scene: Scene) -> Finding | None:
    """The loss, and with it every gradient, is the right one times one factor."""
    factors = {float(one.values[0] / one.wanted[0]) for one in scene.struck if one.wanted[0]}
    factor = next(iter(factors), float("nan"))
    if not all(same(factor, other, scene.exact) for other in factors):
        return None
    gradients = [struck(piece) for piece in scene.pieces("gradients before clipping") if piece.differs]
    if gradients:
        hypothesis = [factor * one.wanted for one in gradients]
        if not scene.explained(hypothesis, gradients):
            return None
    cause, why, strength = named(scene, factor, of_loss=True)
    what = "loss and gradients are" if gradients else "the loss is"
    return Finding(
        cause=cause,
        strength=strength if gradients else min(strength, LIKELY),
        words=f"{what} exactly {times(factor)} the reference in step {scene.step}: {why}",
    )


@rule("loss", "gradients before clipping")
def means(scene: Scene) -> Finding | None:
    """The first step goes wrong whose batch is not shared out evenly."""
    earlier = [scene.uneven(step) for step in scene.steps if step.number < scene.step]
    if not scene.uneven(scene.plan) or any(earlier) or not (scene.on_all_ranks and scene.finite):
        return None
    away = _relative(scene)
    if not away < _UNEVEN:
        return None
    sizes = " + ".join(str(len(batch)) for batch in scene.plan.micro_batches)
    what = "loss" if scene.rung == "loss" else "gradient"
    return Finding(
        cause="mean-of-means",
        strength=(CERTAIN if scene.rung == "loss" and _const(scene) is None else LIKELY) if earlier else GUESS,
        words=f"the {what} is {number(away)} of its size away first in step {scene.step}, whose {sizes} samples are "
        "not "
        f"shared out evenly over {scene.context.num_groups}: a mean of means, not the mean over all samples",
    )


def _relative(scene: Scene) -> float:
    size = np.sqrt(sum(float(np.square(one.piece.wanted).sum()) for one in scene.struck))
    away = np.sqrt(sum(float(np.square(one.piece.values - one.piece.wanted).sum()) for one in scene.struck))
    return float(away / size) if size else float("inf")


def _const(scene: Scene) -> float | None:
    """Return the factor between all gradients of this step and the right ones, None where there is none."""
    gradients = [struck(piece) for piece in scene.pieces("gradients before clipping") if piece.differs]
    factor = ratio([one.values for one in gradients], [one.wanted for one in gradients])
    return factor if scene.explained([factor * one.wanted for one in gradients], gradients) else None


@rule("loss")
def masks(scene: Scene) -> Finding | None:
    """The samples are right and what is drawn for them may not be."""
    drawn = {"dropout-masks": scene.workload.dropout > 0, "augmentation-shared": scene.workload.augment != "none"}
    possible = [cause for cause, holds in drawn.items() if holds]
    if len(possible) != 1 or not _relative(scene) < 1:
        return None
    words = {
        "dropout-masks": "dropout masks are not those of the samples",
        "augmentation-shared": "images are not augmented as those samples are",
    }
    return Finding(
        cause=possible[0],
        strength=GUESS,
        words=f"samples and weights of step {scene.step} are right and the loss is {number(_relative(scene))} of its "
        "size "
        f"away, by no common factor: {words[possible[0]]}",
    )
