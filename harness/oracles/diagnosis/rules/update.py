"""What is told by parameters that are wrong although gradients and optimizer state are right.

The update is held against the right one: d = theta(t) - theta(t-1).
"""

from __future__ import annotations

import numpy as np

from harness.oracles.diagnosis.base import CERTAIN, LIKELY, Finding, rule, same, subject, times
from harness.oracles.diagnosis.rules.state import decayed, still
from harness.oracles.diagnosis.scene import Scene, ratio
from harness.oracles.reasons import listed
from harness.oracles.tables import Floats
from harness.record import Rung

_RUNG: Rung = "parameters"


def _updates(scene: Scene) -> tuple[list[Floats], list[Floats], list[Floats]] | None:
    """Return the updates as they are, as they should be, and the parameters before, of all that differs."""
    before = [values for values in scene.taken(_RUNG, scene.step - 1) if values is not None]
    if scene.step < 0 or len(before) < len(scene.struck):
        return None
    got = [one.values - old for one, old in zip(scene.struck, before, strict=True)]
    right = [one.wanted - old for one, old in zip(scene.struck, before, strict=True)]
    return got, right, before


@rule(_RUNG)
def frozen(scene: Scene) -> Finding | None:
    """A parameter moves that is frozen."""
    if scene.step < 0 or any(one.piece.trainable for one in scene.struck):
        return None
    return Finding(
        cause="frozen-trained",
        strength=CERTAIN,
        words=f"the frozen {listed(scene.names)} moves in step {scene.step}: it is trained",
    )


@rule(_RUNG)
def scaled(scene: Scene) -> Finding | None:
    """The update is the right one times a factor."""
    updates = _updates(scene)
    if updates is None:
        return None
    got, right, before = updates
    factor = ratio(got, right)
    if not scene.explained([old + factor * own for old, own in zip(before, right, strict=True)]):
        return None
    if abs(factor) < scene.exact:
        return still(scene)
    return _rate(scene, factor)


def _rate(scene: Scene, factor: float) -> Finding:
    """Say whether a rate is wrong from the start or by its schedule."""
    moving = [step.number for step in scene.steps if step.learning_rate > 0]
    now, world = scene.plan.learning_rate, scene.context.world_size
    planned = sorted({step.learning_rate for step in scene.steps if step.learning_rate > 0})
    other = [rate for rate in planned if same(factor * now, rate)]
    if moving and scene.step > moving[0]:
        told = "that of another epoch" if other else "not the planned one"
        return Finding(
            cause="rate-schedule",
            strength=CERTAIN if other or _power(factor, scene.workload.schedule.gamma) else LIKELY,
            words=f"up to step {scene.step - 1} nothing differs, then {subject(scene, 'update')} is exactly "
            f"{times(factor)} the reference: the learning rate {factor * now:.4g} is {told}, expected {now:.4g}",
        )
    by_world = world > 1 and (same(factor, world) or same(factor, 1 / world))
    why = f": it is {'multiplied' if factor > 1 else 'divided'} by the world size" if by_world else ""
    return Finding(
        cause="learning-rate-scaled",
        strength=CERTAIN if by_world else LIKELY,
        words=f"gradients and state are right, and {subject(scene, 'update')} is exactly {times(factor)} the "
        f"reference: the learning rate is {factor * now:.4g}, expected {now:.4g}{why}",
    )


def _power(factor: float, gamma: float) -> bool:
    """Whether a schedule that goes down by ``gamma`` was some epochs ahead, or behind."""
    return gamma != 1 and any(same(factor, gamma**epochs) for epochs in range(-8, 9))


@rule(_RUNG)
def nesterov(scene: Scene) -> Finding | None:
    """The update is the one with Nesterov's momentum, or the one without."""
    updates, optimizer = _updates(scene), scene.workload.optimizer
    if updates is None or optimizer.name != "sgd" or not optimizer.momentum:
        return None
    clipped: Rung = "gradients after clipping"
    rung: Rung = clipped if clipped in scene.evidence.reference.rungs else "gradients before clipping"
    states = scene.taken("optimizer state", scene.step, "momentum:")
    guess = [
        None
        if state is None or gradient is None
        else old
        - scene.plan.learning_rate
        * (state if optimizer.nesterov else gradient + optimizer.weight_decay * old + optimizer.momentum * state)
        for old, state, gradient in zip(updates[2], states, scene.taken(rung, scene.step), strict=True)
    ]
    if not scene.explained(guess):
        return None
    how = "without" if optimizer.nesterov else "with"
    return Finding(
        cause="optimizer-settings",
        strength=CERTAIN,
        words=f"{subject(scene, 'update')} is the one {how} Nesterov's momentum",
    )


@rule(_RUNG)
def moved_at_rate_zero(scene: Scene) -> Finding | None:
    """Parameters move although the rate is zero."""
    updates = _updates(scene)
    if updates is None or scene.plan.learning_rate > 0 or any(own.any() for own in updates[1]):
        return None
    return Finding(
        cause="rate-schedule",
        strength=CERTAIN,
        words=f"{subject(scene, 'parameter')} moves in step {scene.step}, whose learning rate is 0: the rate is not "
        "the planned one",
    )


@rule(_RUNG)
def decay(scene: Scene) -> Finding | None:
    """The update is off by a multiple of the weights."""
    updates = _updates(scene)
    optimizer, rate = scene.workload.optimizer, scene.plan.learning_rate
    trained = any(one.piece.trainable for one in scene.struck)
    if updates is None or not trained or not rate or not all(np.any(old) for old in updates[2]):
        return None
    got, right, before = updates
    share = ratio([own - wanted for own, wanted in zip(got, right, strict=True)], before)
    if not scene.explained([one.wanted + share * old for one, old in zip(scene.struck, before, strict=True)]):
        return None
    unit = rate * optimizer.weight_decay
    return decayed(scene, 1 - share / unit if unit else float("inf"), "update")


@rule(_RUNG)
def bias_correction(scene: Scene) -> Finding | None:
    """Adam corrects its moments for another number of steps than it has made."""
    optimizer, count = scene.workload.optimizer, scene.step + 1
    updates = _updates(scene)
    if updates is None or optimizer.name == "sgd" or not scene.plan.learning_rate:
        return None
    first = scene.taken("optimizer state", scene.step, "exp_avg:")
    second = scene.taken("optimizer state", scene.step, "exp_avg_sq:")
    moments = [(m, v) for m, v in zip(first, second, strict=True) if m is not None and v is not None]
    if len(moments) < len(scene.struck):
        return None
    decoupled = optimizer.weight_decay if optimizer.name == "adamw" else 0.0
    kept = [old * (1 - scene.plan.learning_rate * decoupled) for old in updates[2]]
    parts = list(zip(kept, moments, strict=True))
    for other in range(1, 2 * scene.context.world_size * count + 2):
        # One tensor rules out almost every count.
        guess = (start - _step(scene, m, v, other) for start, (m, v) in parts)
        if other == count or not scene.explained([next(guess)], scene.struck[:1]):
            continue
        if scene.explained([start - _step(scene, m, v, other) for start, (m, v) in parts]):
            return Finding(
                cause="adam-step-count",
                strength=CERTAIN,
                words=f"{subject(scene, 'update')} is what Adam makes in update {other}, but this is update {count}: "
                "its bias correction counts other steps",
            )
    return None


def _step(scene: Scene, first: Floats, second: Floats, count: int) -> Floats:
    optimizer = scene.workload.optimizer
    fast, slow = (1 - beta**count for beta in optimizer.betas)
    # The sketch of squares may be negative, and has no step: nan explains nothing.
    with np.errstate(invalid="ignore"):
        step: Floats = scene.plan.learning_rate * (first / fast) / (np.sqrt(second / slow) + optimizer.epsilon)
    return step
