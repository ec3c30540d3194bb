"""What is told by an optimizer's state that is wrong although the gradients are right.

Of momentum and first moments all terms are in the reference:

    s(t) = m s(t-1) + a (g(t) + d theta(t-1))

with a = 1 for SGD and 1 - beta1 for Adam, m the momentum or beta1, d the weight decay where it is a term of the
gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.oracles.diagnosis.base import CERTAIN, GUESS, LIKELY, Finding, rule, same, subject, times
from harness.oracles.diagnosis.factors import named
from harness.oracles.diagnosis.scene import Piece, Scene, Struck, ratio
from harness.oracles.tables import Floats
from harness.record import Rung

_STATE: Rung = "optimizer state"
_FIRST = ("momentum", "exp_avg")


@rule(_STATE)
def step_number(scene: Scene) -> Finding | None:
    """The optimizer has counted another number of steps."""
    counts = [one for one in scene.struck if one.piece.name == "step"]
    if not counts or len(counts) < len(scene.struck):
        return None
    got, wanted = counts[0].values[0], counts[0].wanted[0]
    return Finding(
        cause="adam-step-count",
        strength=CERTAIN,
        words=f"{subject(scene, 'step number')} is {got:g} after step {scene.step}, expected {wanted:g}, and the "
        "moments are right: an update is counted that was none, or one is not counted",
    )


@rule(_STATE)
def lost(scene: Scene) -> Finding | None:
    """What was kept of earlier steps is gone."""
    optimizer = scene.workload.optimizer
    keep = {"momentum": optimizer.momentum, "exp_avg": optimizer.betas[0], "exp_avg_sq": optimizer.betas[1]}
    parts = [one for one in scene.struck if one.piece.name.partition(":")[0] in keep]
    if not parts or scene.step == 0:
        return None
    if scene.resumed_here:
        # The state that was saved is not recorded with the steps after it.
        parts = [one for one in parts if one.piece.name.partition(":")[0] in _FIRST]
        fresh = [_begun(scene, one) for one in parts]
    else:
        old = [_previous(scene, one.piece, one.places) for one in parts]
        fresh = [
            None if values is None else one.wanted - keep[one.piece.name.partition(":")[0]] * values
            for one, values in zip(parts, old, strict=True)
        ]
    if not scene.explained(fresh, parts):
        return None
    where = ", where a checkpoint was loaded" if scene.resumed_here else ""
    return Finding(
        cause="optimizer-state-lost",
        strength=CERTAIN,
        words=f"nothing differs before step {scene.step}{where}: there {subject(scene, _noun(scene))} begins again at "
        "zero, what it kept of the steps before is lost",
    )


def _begun(scene: Scene, one: Struck) -> Floats | None:
    """Return what a first moment is that begins at zero in this step."""
    optimizer = scene.workload.optimizer
    clipped: Rung = "gradients after clipping"
    rung: Rung = clipped if clipped in scene.evidence.reference.rungs else "gradients before clipping"
    gradient = _of_parameter(scene, one.piece, one.places, rung, scene.step)
    weights = _of_parameter(scene, one.piece, one.places, "parameters", scene.step - 1)
    if gradient is None or weights is None:
        return None
    decay = 0.0 if optimizer.name == "adamw" else optimizer.weight_decay
    share = 1.0 if optimizer.name == "sgd" else 1 - optimizer.betas[0]
    begun: Floats = share * (gradient + decay * weights)
    return begun


def _noun(scene: Scene) -> str:
    return "momentum" if scene.workload.optimizer.name == "sgd" else "moment"


def _previous(scene: Scene, piece: Piece, places: np.ndarray) -> Floats | None:
    values = scene.at(piece, _STATE, scene.step - 1)
    return None if values is None else values[places]


@rule(_STATE)
def term(scene: Scene) -> Finding | None:
    """What is added in this step is wrong: the weight decay in it, or the gradient."""
    optimizer = scene.workload.optimizer
    parts = [one for one in scene.struck if one.piece.name.partition(":")[0] in _FIRST]
    if not parts:
        return None
    weights = [_of_parameter(scene, one.piece, one.places, "parameters", scene.step - 1) for one in parts]
    if all(values is not None and np.any(values) for values in weights):
        theta = [values for values in weights if values is not None]
        share = ratio([one.values - one.wanted for one in parts], theta)
        if scene.explained([one.wanted + share * values for one, values in zip(parts, theta, strict=True)], parts):
            if optimizer.name == "adamw":
                return _setting(scene, "holds a multiple of the weights: weight decay is a term of the gradient here")
            unit = (1.0 if optimizer.name == "sgd" else 1 - optimizer.betas[0]) * optimizer.weight_decay
            return decayed(scene, 1 + share / unit if unit else float("inf"), _noun(scene))
    return _kept_share(scene, parts) or _fed(scene, parts)


def _setting(scene: Scene, words: str) -> Finding:
    told = f"{subject(scene, _noun(scene))} {words}"
    return Finding(cause="optimizer-settings", strength=CERTAIN, words=told)


def _kept_share(scene: Scene, parts: Sequence[Struck]) -> Finding | None:
    """Return the share that is kept of the state before, where that is not the one asked for."""
    optimizer = scene.workload.optimizer
    old = [_previous(scene, one.piece, one.places) for one in parts]
    known = [values for values in old if values is not None and np.any(values)]
    if len(known) < len(parts) or optimizer.name != "sgd":
        return None
    more = ratio([one.values - one.wanted for one in parts], known)
    if not scene.explained([one.wanted + more * values for one, values in zip(parts, known, strict=True)], parts):
        return None
    if same(more, -optimizer.momentum):
        return None
    return _setting(scene, f"keeps {optimizer.momentum + more:.4g} of what it was, expected {optimizer.momentum:g}")


def decayed(scene: Scene, factor: float, noun: str) -> Finding:
    """Return the finding that weight decay is ``factor`` times what it should be."""
    asked = f"is {times(factor)} what is asked for" if np.isfinite(factor) else "is applied though none is asked for"
    world = scene.context.world_size
    counted = f": counted once on each of {world} ranks" if world > 1 and same(factor, world) else ""
    return Finding(
        cause="regulariser-scaled",
        strength=CERTAIN,
        words=f"{subject(scene, noun)} is off by a multiple of the weights: weight decay {asked}{counted}",
    )


def _fed(scene: Scene, parts: Sequence[Struck]) -> Finding | None:
    """Return what the gradient was multiplied with on its way into the optimizer."""
    optimizer = scene.workload.optimizer
    keep = optimizer.momentum if optimizer.name == "sgd" else optimizer.betas[0]
    gained, right = [], []
    for one in parts:
        old = _previous(scene, one.piece, one.places)
        if old is None and scene.step:
            return None
        kept = keep * old if old is not None else 0.0
        decay: Floats | float = 0.0
        if optimizer.name != "adamw" and optimizer.weight_decay:
            theta = _of_parameter(scene, one.piece, one.places, "parameters", scene.step - 1)
            unit = 1.0 if optimizer.name == "sgd" else 1 - optimizer.betas[0]
            decay = unit * optimizer.weight_decay * theta if theta is not None else 0.0
        gained.append(one.values - kept - decay)
        right.append(one.wanted - kept - decay)
    factor = ratio(gained, right)
    guess = [one.wanted + (factor - 1) * values for one, values in zip(parts, right, strict=True)]
    if not scene.explained(guess, parts):
        return None
    if abs(factor) < 1e-6:
        return None
    # The second moments of an L2 term are no multiple of the gradient's.
    alone = optimizer.name == "adamw" or (optimizer.name == "adam" and not optimizer.weight_decay)
    if alone and not _squared(scene, factor):
        return _setting(scene, f"takes {times(factor)} as much of the gradient as asked for: the betas are others")
    cause, why, strength = named(scene, factor)
    limit, length = scene.workload.clip_norm, _norm(scene)
    if limit is not None and length > limit and "gradients after clipping" in scene.evidence.not_shown:
        if same(factor, length / limit):
            cause, why, strength = "clip-skipped", "it is not clipped", CERTAIN
        elif cause == "gradients-scaled":
            cause, why, strength = "clip-wrong-norm", f"it is clipped as if its norm were {length / factor:.4g}", LIKELY
    return Finding(
        cause=cause,
        strength=strength,
        words=f"the gradient that enters {subject(scene, _noun(scene))} is exactly {times(factor)} the recorded one: "
        f"{why}",
    )


def _squared(scene: Scene, factor: float) -> bool:
    """Whether second moments have gained as if every gradient were ``factor`` times what it is."""
    parts = [one for one in scene.struck if one.piece.name.startswith("exp_avg_sq:")]
    keep = scene.workload.optimizer.betas[1]
    old = [_previous(scene, one.piece, one.places) if scene.step else np.zeros(one.values.size) for one in parts]
    guess = [
        None if values is None else keep * values + factor**2 * (one.wanted - keep * values)
        for one, values in zip(parts, old, strict=True)
    ]
    return scene.explained(guess, parts)


def _norm(scene: Scene) -> float:
    file = scene.evidence.reference.rungs.get("gradients before clipping")
    found = [scene.reference("gradients before clipping", scene.step, t.name) for t in (file.tensors if file else ())]
    return float(np.sqrt(sum(float(np.square(values).sum()) for values in found if values is not None)))


def _of_parameter(scene: Scene, piece: Piece, places: np.ndarray, rung: Rung, step: int) -> Floats | None:
    values = scene.at(piece, rung, step, piece.name.partition(":")[2])
    return None if values is None or values.size != piece.values.size else values[places]


@rule(_STATE)
def not_updated(scene: Scene) -> Finding | None:
    """State and parameters stay as they were."""
    old = [_previous(scene, one.piece, one.places) for one in scene.struck]
    if scene.step == 0:
        old = [np.zeros_like(one.values) for one in scene.struck]
    if not scene.explained(old):
        return None
    return still(scene)


def still(scene: Scene) -> Finding:
    """Return the finding that parameters are not updated here: never at all, or in this step."""
    moves = any(_moves(scene, step) for step in range(scene.step + 1, len(scene.steps)))
    if moves or not scene.on_all_ranks:
        return Finding(
            cause="step-skipped",
            strength=CERTAIN,
            words=f"{subject(scene, 'parameter')} stays as it is in step {scene.step}: the update is skipped",
        )
    return Finding(
        cause="nothing-updated",
        strength=CERTAIN,
        words=f"{subject(scene, 'parameter')} stays as it is from step {scene.step} on: the optimizer does not update "
        "it",
    )


def _moves(scene: Scene, step: int) -> bool:
    """Whether a later step moves, on a rank that differs, one of the parameters that this one does not."""
    names = {name.rpartition(":")[2] for name in scene.names}
    before, after = (list(scene.pieces("parameters", number, names)) for number in (step - 1, step))
    return any(
        piece.rank in scene.ranks and not np.array_equal(old.values, piece.values)
        for old, piece in zip(before, after, strict=False)
    )


@rule(_STATE)
def after_resuming(scene: Scene) -> Finding | None:
    """The first state after a checkpoint was loaded is wrong in another way."""
    if not scene.resumed_here:
        return None
    old = [_previous(scene, one.piece, one.places) for one in scene.struck]
    if all(values is not None for values in old):
        known = [values for values in old if values is not None]
        share = ratio([one.values - one.wanted for one in scene.struck], known)
        exact = scene.explained([one.wanted + share * values for one, values in zip(scene.struck, known, strict=True)])
    else:
        exact = False
    return Finding(
        cause="optimizer-state-differs",
        strength=LIKELY if exact else GUESS,
        words=f"nothing differs before step {scene.step}, where a checkpoint was loaded: there "
        f"{subject(scene, _noun(scene))} is not what was saved",
    )
