"""Rules: each looks at the place of the first divergence and says, if it knows, what happened there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.oracles.diagnosis.causes import CAUSES
from harness.oracles.diagnosis.scene import Context, Scene, Struck
from harness.oracles.evidence import Evidence
from harness.oracles.reasons import amount, listed
from harness.record import Diagnosis, Divergence, Rung
from harness.registry import Registry

# How much a finding is worth: it fits to the last digit and nothing else does; it fits, and so may others; a guess.
CERTAIN, LIKELY, GUESS = 3, 2, 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A cause that a rule recognises, what shows it, and how much that is worth."""

    cause: str
    strength: int
    words: str


Look = Callable[[Scene], Finding | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A rule and the rungs on which it may look."""

    rungs: tuple[Rung, ...]
    look: Look


_registry: Registry[Rule] = Registry("diagnosis", "harness.oracles.diagnosis.rules", by_address=False)


def rule(*rungs: Rung) -> Callable[[Look], Look]:
    """Register the decorated ``rule(scene) -> Finding | None`` for divergences of ``rungs``."""

    def register(look: Look) -> Look:
        _registry.register(f"{look.__module__.rpartition('.')[2]}.{look.__name__}", Rule(rungs=rungs, look=look), look)
        return look

    return register


def diagnose(divergence: Divergence, evidence: Evidence, context: Context) -> Diagnosis | None:
    """Return the likely cause of a divergence, or None where nothing that is known leaves such evidence.

    The strongest finding wins. Where two causes are equally strong it is ``likely`` at most, and guesses that
    contradict each other are none.
    """
    scene = Scene(divergence, evidence, context)
    rules = [rule for rule in _registry.all().values() if scene.rung in rule.rungs]
    # A factor or a norm that is no number explains nothing.
    with np.errstate(all="ignore"):
        if not scene.finite:
            return None  # the verdict says so itself, and nothing more can be read from it
        findings = [found for rule in rules if (found := rule.look(scene))]
    strength = max((found.strength for found in findings), default=0)
    best = [found for found in findings if found.strength == strength]
    rivals = {found.cause for found in best}
    if not best or (strength == GUESS and len(rivals) > 1):
        return None
    cause = CAUSES[best[0].cause]
    certain = strength == CERTAIN and len(rivals) == 1
    return Diagnosis(
        cause=best[0].cause,
        confidence="certain" if certain else "likely",
        words=best[0].words,
        check=cause.check,
        mend=cause.mend,
    )


# -- words that rules share ------------------------------------------------------------------------------------------


def times(factor: float) -> str:
    """Return ``2x`` or ``0.3333x``."""
    return f"{factor:.4g}x"


def same(number: float, other: float, tolerance: float = 1e-5) -> bool:
    """Whether two factors are one but for rounding."""
    return math.isfinite(number) and abs(number - other) <= tolerance * max(abs(number), abs(other))


def subject(scene: Scene, noun: str, parts: Sequence[Struck] | None = None) -> str:
    """Return what differs: ``every gradient``, ``on rank 1 the gradient of dense1.weight``, ``3 of 8 gradients``."""
    parts = scene.struck if parts is None else parts
    # Optimizer state is told by the names of its parameters.
    struck = {part.piece.name.rpartition(":")[2] for part in parts}
    every = [tensor.name.rpartition(":")[2] for tensor in scene.comparison.tensors if tensor.trainable]
    names = [name for name in dict.fromkeys(every) if name in struck] or sorted(struck)
    wanted = set(every) - {"step"} - set(scene.evidence.no_signal)
    if len(every) == 1:
        told = f"the {noun}"
    elif len(names) > 1 and wanted <= struck:
        told = f"every {noun}"
    else:
        told = f"the {noun} of {listed(names)}"
    num_elements = sum(part.places.size for part in parts if part.piece.rank == parts[0].piece.rank)
    if not any(part.whole for part in parts):
        told = f"{amount(num_elements, 'element')} of {told}"
    return f"{on_ranks(scene)}{told}"


def on_ranks(scene: Scene) -> str:
    """Return ``on rank 1`` where only some of the ranks differ that hold the tensors in question."""
    if scene.on_all_ranks:
        return ""
    return f"on rank{'' if len(scene.ranks) == 1 else 's'} {listed(list(map(str, scene.ranks)))} "
