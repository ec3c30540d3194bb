"""What is told by a loss that is wrong although samples, weights and running statistics are right."""

from __future__ import annotations

import numpy as np

from harness.oracles.diagnosis.base import CERTAIN, GUESS, LIKELY, Finding, rule, same, times
from harness.oracles.diagnosis.factors import STRANGE, named
from harness.oracles.diagnosis.scene import Scene, struck
from harness.oracles.reasons import amount, number
from harness.plan import shard

# How much more a gradient may be off than a loss: its parts may cancel.
_CANCELLED = 10


@rule("loss")
def scaled(scene: Scene) -> Finding | None:
    """The loss, and with it every gradient, is the right one times one factor."""
    factors = {float(one.values[0] / one.wanted[0]) for one in scene.struck if one.wanted[0]}
    factor = next(iter(factors), float("nan"))
    if not all(same(factor, other, scene.exact) for other in factors):
        return None
    gradients = [struck(piece) for piece in scene.pieces("gradients before clipping", scene.step) if piece.differs]
    if gradients:
        hypothesis = [factor * one.wanted for one in gradients]
        if not scene.explained(hypothesis, gradients):
            return None
    cause, why, strength = named(scene, factor, of_loss=True)
    # A single number fits any factor.
    if not gradients and why == STRANGE:
        return None
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
    # Groups' losses are much alike. A guess keeps to that.
    away, most = _relative(scene), _unevenness(scene) * (1 if earlier else 0.15)
    if not away < most * (1 if scene.rung == "loss" else _CANCELLED) or _padded(scene):
        return None
    sizes = " + ".join(str(len(batch)) for batch in scene.plan.micro_batches)
    what = "loss" if scene.rung == "loss" else "gradient"
    return Finding(
        cause="mean-of-means",
        strength=(CERTAIN if scene.rung == "loss" and not scene.pipelined else LIKELY) if earlier else GUESS,
        words=f"the {what} is {number(away)} of its size away first in step {scene.step}, whose {sizes} samples are "
        f"not shared out evenly over {scene.context.num_groups}: a mean of means, not the mean over all samples",
    )


def _relative(scene: Scene) -> float:
    size = np.sqrt(sum(float(np.square(one.piece.wanted).sum()) for one in scene.struck))
    away = np.sqrt(sum(float(np.square(one.piece.values - one.piece.wanted).sum()) for one in scene.struck))
    return float(away / size) if size else float("inf")


def _shares(scene: Scene) -> list[int]:
    """Return the number of samples of every group in every micro-batch."""
    groups = max(2, scene.context.num_groups)
    return [len(shard(batch, group, groups)) for batch in scene.plan.micro_batches for group in range(groups)]


def _unevenness(scene: Scene) -> float:
    """Return by how much, at most, a mean of the groups' means is off: losses are not negative."""
    sizes = _shares(scene)
    mean = sum(sizes) / len(sizes)
    return max((abs(mean / size - 1) for size in sizes if size), default=0.0)


def _padded(scene: Scene) -> int:
    """Return how many samples a pipeline must add so that its micro-batches are alike, if the loss is as if it had."""
    sizes = _shares(scene)
    added = max(sizes) * len(sizes) - sum(sizes)
    if scene.rung != "loss" or not scene.pipelined or not added:
        return 0
    (first, *_) = scene.struck
    more = (float(first.values[0] / first.wanted[0]) - 1) * sum(sizes) if first.wanted[0] else 0.0
    return added if 0.4 * added < more < 2.5 * added else 0


@rule("loss")
def padding(scene: Scene) -> Finding | None:
    """The loss of a pipeline is larger by what padded samples add."""
    added = _padded(scene)
    if not added or any(scene.uneven(step) for step in scene.steps if step.number < scene.step):
        return None
    return Finding(
        cause="padding-trained",
        strength=LIKELY,
        words=f"the loss is {number(_relative(scene))} of its size too large first in step {scene.step}, about what "
        f"{amount(added, 'padded sample')} would add: what fills up micro-batches is trained",
    )


@rule("loss")
def left_out(scene: Scene) -> Finding | None:
    """The loss lacks about as much as the samples of one share, or of one micro-batch, have in it."""
    (first, *_) = scene.struck
    if not first.wanted[0] or not scene.on_all_ranks or scene.pipelined:
        return None
    lacking = 1 - float(first.values[0] / first.wanted[0])
    whole = scene.plan.size
    shares = {size / whole for size in _shares(scene)}
    several = len(scene.plan.micro_batches) > 1
    batches = {len(batch) / whole for batch in scene.plan.micro_batches} if several else set()
    if not any(0.6 * share < lacking < 1.5 * share for share in shares | batches):
        return None
    return Finding(
        cause="micro-batch-left-out" if several else "rank-left-out",
        strength=GUESS,
        words=f"the loss of step {scene.step} lacks {number(lacking)} of its size, about the share of one "
        f"{'micro-batch' if several else 'rank'}: it is left out",
    )


@rule("loss")
def stage_inputs(scene: Scene) -> Finding | None:
    """A pipeline's first loss is wrong, by no factor, with right samples and weights."""
    drawn = scene.workload.dropout or scene.workload.augment != "none"
    if not scene.pipelined or drawn or scene.step or scaled(scene) or scene.uneven(scene.plan):
        return None
    return Finding(
        cause="stale-activations",
        strength=GUESS,
        words=f"samples and weights of step {scene.step} are right and the loss is {number(_relative(scene))} of its "
        "size away: a stage reads inputs that have not arrived",
    )


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
        f"size away, by no common factor: {words[possible[0]]}",
    )
