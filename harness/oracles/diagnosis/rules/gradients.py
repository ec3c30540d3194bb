"""What is told by gradients that are wrong although the loss is right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from harness.oracles.diagnosis.base import CERTAIN, GUESS, LIKELY, Finding, on_ranks, rule, same, subject, times
from harness.oracles.diagnosis.factors import named, num_micro_batches
from harness.oracles.diagnosis.scene import Piece, Scene, Struck, ratio
from harness.oracles.reasons import listed, number
from harness.oracles.tables import Floats
from harness.record import Rung

_RUNG: Rung = "gradients before clipping"
# Significant bits of narrower types.
_NARROW = {"float32": 24, "float16": 11, "bfloat16": 8}
# By how many bits a sum of narrow numbers may be wider than they are, and how many bits are looked at.
_WIDER, _BITS = 10, 48


@rule(_RUNG)
def frozen(scene: Scene) -> Finding | None:
    """A parameter has a gradient that should have none."""
    if any(one.piece.trainable for one in scene.struck):
        return None
    return Finding(
        cause="frozen-trained",
        strength=CERTAIN,
        words=f"the frozen {listed(scene.names)} receives a gradient: it is trained",
    )


@rule(_RUNG)
def scaled(scene: Scene) -> Finding | None:
    """Gradients are the right ones times one factor."""
    factor = _factor(scene.struck)
    if same(factor, 1, 1e-4) or abs(factor) < 1e-9:
        return None
    if not scene.explained([factor * one.wanted for one in scene.struck]):
        return None
    cause, why, strength = named(scene, factor)
    # A single number fits any factor: only a telling one means something.
    single = sum(one.places.size for one in scene.struck) == 1 and cause == "gradients-scaled"
    return Finding(
        cause=cause,
        strength=GUESS if single else strength,
        words=f"{subject(scene, 'gradient')} is exactly {times(factor)} the reference: {why}",
    )


@rule(_RUNG)
def scaled_by_tensor(scene: Scene) -> Finding | None:
    """Every tensor has a factor of its own, on every rank alike."""
    factors: dict[str, set[float]] = defaultdict(set)
    if len(scene.names) < 2:
        return None
    for one in scene.struck:
        own = _factor([one])
        if not scene.explained([own * one.wanted], [one]) or one.places.size < 2:
            return None
        factors[one.piece.name].add(round(own, 5))
    seen = sorted({factor for own in factors.values() for factor in own})
    if len(seen) < 2 or not all(seen):
        return None
    return Finding(
        cause="gradients-scaled",
        strength=LIKELY,
        words=f"every gradient is the right one times a factor of its own ({listed([times(f) for f in seen])}): parts "
        "of the model are scaled apart",
    )


@rule(_RUNG)
def zero(scene: Scene) -> Finding | None:
    """Gradients are zero."""
    if any(one.values.any() for one in scene.struck):
        return None
    ever = scene.step == 0 and not any(
        piece.values.any() for step in range(1, len(scene.steps)) for piece in scene.pieces(_RUNG, step, scene.names)
    )
    whole = all(one.whole for one in scene.struck)
    if ever and whole and scene.on_all_ranks:
        return Finding(
            cause="trained-frozen",
            strength=CERTAIN,
            words=f"{subject(scene, 'gradient')} is zero in every step: it receives none, though it is to be trained",
        )
    # A message that was lost leaves a range of zeros; zeros here and there may be meant, as in compression.
    ranges = all(one.places.size == one.places[-1] - one.places[0] + 1 or one.whole for one in scene.struck)
    return Finding(
        cause="zeroed-communication",
        strength=CERTAIN if ranges else GUESS,
        words=f"{subject(scene, 'gradient')} is zero in step {scene.step}: it was lost on the way",
    )


@rule(_RUNG)
def stale(scene: Scene) -> Finding | None:
    """Gradients are those of the step before, or still hold them."""
    before = scene.taken(_RUNG, scene.step - 1)
    if any(old is None or not np.any(old) for old in before):
        return None
    if scene.explained(before):
        return Finding(
            cause="stale-gradients",
            strength=CERTAIN,
            words=f"{subject(scene, 'gradient')} of step {scene.step} is that of step {scene.step - 1}: it was read "
            "before the new one had arrived",
        )
    if scene.explained([one.wanted + old for one, old in zip(scene.struck, before, strict=True) if old is not None]):
        return Finding(
            cause="gradients-not-zeroed",
            strength=CERTAIN,
            words=f"{subject(scene, 'gradient')} of step {scene.step} still holds that of step {scene.step - 1}: it is "
            "not set to zero in between",
        )
    return None


@rule(_RUNG)
def unreduced(scene: Scene) -> Finding | None:
    """Ranks have gradients of their own, whose mean (or sum) is the right one."""
    how = _combined(scene)
    if how is None:
        return None
    trained = {piece.name for piece in scene.here if piece.trainable and piece.name not in scene.evidence.no_signal}
    whole = trained <= set(scene.names)
    early = num_micro_batches(scene) > 1 and whole
    return Finding(
        cause="reduced-too-early" if early else "not-reduced",
        strength=LIKELY if early else CERTAIN,
        words=f"{subject(scene, 'gradient')} is another one on every rank, and the {how} of all ranks is right: "
        + ("later micro-batches are not reduced over ranks" if early else "it is not reduced over ranks"),
    )


def _combined(scene: Scene) -> str | None:
    """Return how ranks' gradients make the right one, or None where they don't or don't differ from each other."""
    groups = _same_place(scene)
    if not groups or len(scene.ranks) < 2:
        return None
    counts = {rank: len(shares) for rank, shares in enumerate(_shares(scene))}
    total = sum(counts.values())
    guesses = {
        "mean": [np.mean([piece.values for piece in group], axis=0) for group in groups],
        "sum": [np.sum([piece.values for piece in group], axis=0) for group in groups],
        "weighted mean": [
            np.sum([counts.get(piece.rank, 0) / total * piece.values for piece in group], axis=0) for group in groups
        ],
    }
    apart = sum(float(np.square(piece.values - group[0].values).sum()) for group in groups for piece in group)
    if apart <= sum(group[0].noise ** 2 for group in groups):
        return None
    for how, guess in guesses.items():
        rest = (own - group[0].wanted for own, group in zip(guess, groups, strict=True))
        left = np.sqrt(sum(float(np.square(values).sum()) for values in rest))
        noise = float(np.linalg.norm([group[0].noise for group in groups]))
        if left <= max(scene.exact * np.sqrt(apart), min(noise, 0.01 * np.sqrt(apart))):
            return how
    return None


def _same_place(scene: Scene) -> list[list[Piece]]:
    """Return the pieces of struck tensors that several ranks hold of one place, by place."""
    places: dict[tuple[object, ...], list[Piece]] = defaultdict(list)
    for piece in scene.here:
        if piece.name in scene.names:
            places[piece.name, piece.tensor.start, piece.tensor.shape].append(piece)
    return [group for group in places.values() if len(group) > 1]


def _shares(scene: Scene) -> list[Floats]:
    whole = np.concatenate(scene.plan.micro_batches)
    return [np.asarray(share, dtype=np.float64) for share in np.array_split(whole, scene.context.world_size)]


@rule(_RUNG)
def narrow(scene: Scene) -> Finding | None:
    """Gradients are right but for the rounding of a narrower type."""
    sizes = [size for one in scene.struck if (size := _relative(one)).size]
    if not sizes:
        return None
    largest = max(float(np.percentile(size, 90)) for size in sizes)
    typical = float(np.median(np.concatenate(sizes)))
    bits = max(_significant_bits(one.values * scene.context.world_size) for one in scene.struck)
    right = max(_significant_bits(one.wanted * scene.context.world_size) for one in scene.struck)
    for words, width in _NARROW.items():
        unit = 2.0**-width
        if not (largest <= 8 * unit and typical >= unit / 50) or bits > width + _WIDER or bits >= right:
            continue
        return Finding(
            cause="low-precision-reduction",
            strength=CERTAIN,
            words=f"{subject(scene, 'gradient')} is right to {number(typical)} of its size, the rounding of {words}: "
            f"it is reduced in {words}",
        )
    return None


def _relative(one: Struck) -> Floats:
    away: Floats = np.abs(one.values - one.wanted)
    scale = np.abs(one.wanted)
    return away[scale > 0] / scale[scale > 0]


def _significant_bits(values: Floats) -> int:
    """Return how many bits nine in ten of the numbers need, to the last bits of float64."""
    mantissas = np.rint(np.frexp(values[values != 0])[0] * 2.0**_BITS).astype(np.int64)
    if not mantissas.size:
        return 0
    return _BITS - int(np.percentile(np.log2(mantissas & -mantissas), 10))


@rule(_RUNG)
def clipped_first(scene: Scene) -> Finding | None:
    """The gradient is no longer than the clipping allows, and points elsewhere a little."""
    limit = scene.workload.clip_norm
    trained = [piece for piece in scene.here if piece.trainable]
    if limit is None or not scene.on_all_ranks or not _whole_model(scene, trained):
        return None
    own = [piece for piece in trained if piece.rank == scene.rank] if _replicated(trained) else trained
    length = float(np.sqrt(sum(np.square(piece.values).sum() for piece in own)))
    right = float(np.sqrt(sum(np.square(piece.wanted).sum() for piece in own)))
    towards = ratio([piece.values for piece in own], [piece.wanted for piece in own]) * right / length if length else 0
    if not (length <= limit * (1 + 1e-5) < right and 0.3 < towards < 1 - 1e-9):
        return None
    # Ranks' gradients of the length allowed, which point about the same way, have such a mean.
    alike = towards > 0.7 and length > 0.9 * limit / scene.num_replicas**0.5
    return Finding(
        cause="clipped-per-rank",
        strength=CERTAIN if alike else GUESS,
        words=f"before clipping the gradient has the length {number(length)} already (limit {limit:g}, expected "
        f"{number(right)}): each rank clips its own gradient before the reduction",
    )


def _replicated(pieces: list[Piece]) -> bool:
    return all(piece.tensor.whole is None for piece in pieces) and len({piece.rank for piece in pieces}) > 1


def _whole_model(scene: Scene, pieces: list[Piece]) -> bool:
    return {piece.name for piece in pieces} >= {tensor.name for tensor in scene.comparison.tensors if tensor.trainable}


@rule(_RUNG)
def partly_missing(scene: Scene) -> Finding | None:
    """All ranks agree on a gradient that is shorter by about one rank's part."""
    factor, replicas = _factor(scene.struck), scene.num_replicas
    agree = all(np.array_equal(group[0].values, piece.values) for group in _same_place(scene) for piece in group)
    if replicas < 2 or not agree or scene.workload.dropout or num_micro_batches(scene) > 1 or _longer(scene):
        return None
    if not scene.on_all_ranks or not abs(factor - (1 - 1 / replicas)) < 0.35 / replicas:
        return None
    if scene.explained([factor * one.wanted for one in scene.struck]):
        return None
    return Finding(
        cause="rank-left-out",
        strength=GUESS,
        words=f"{subject(scene, 'gradient')} has about {times(factor)} the length it should have, and ranks agree: the "
        f"part of one of {replicas} ranks is missing",
    )


@rule(_RUNG)
def unreduced_pieces(scene: Scene) -> Finding | None:
    """Tensors that are spread over ranks have another gradient, of about the right length, on all ranks."""
    factor, replicas = _factor(scene.struck), scene.num_replicas
    pieces = all(one.piece.tensor.whole is not None and one.whole for one in scene.struck)
    if replicas < 2 or not pieces or not scene.on_all_ranks or scene.workload.dropout:
        return None
    length = _norm(one.wanted for one in scene.struck)
    away = _norm(one.values - one.wanted for one in scene.struck) / length if length else 0.0
    # Of an own gradient the noise is not averaged away: it is longer than the mean.
    if not (0.4 < factor < 2 and away > 0.2 and _longer(scene)) or scene.uneven(scene.plan):
        return None
    if scene.explained([factor * one.wanted for one in scene.struck]):
        return None
    return Finding(
        cause="not-reduced",
        strength=GUESS,
        words=f"{subject(scene, 'gradient')} is {number(away)} of its length away on every rank, of about the right "
        "length: each rank holds a piece of its own gradient, which is not reduced",
    )


@rule(_RUNG)
def rescaled(scene: Scene) -> Finding | None:
    """A pipeline's gradient is shorter where micro-batches accumulate."""
    factor = _factor(scene.struck)
    if not scene.pipelined or scene.workload.accumulation < 2 or scene.workload.dropout:
        return None
    if not 0.1 < factor < 0.95 or not scene.on_all_ranks or scene.uneven(scene.plan) or len(scene.names) < 2:
        return None
    if scene.explained([factor * one.wanted for one in scene.struck]):
        return None
    return Finding(
        cause="accumulation-rescaled",
        strength=GUESS,
        words=f"{subject(scene, 'gradient')} has about {times(factor)} the length it should have while the loss is "
        "right: what earlier micro-batches left in it is divided again",
    )


def _longer(scene: Scene) -> bool:
    return _norm(one.values for one in scene.struck) > 0.95 * _norm(one.wanted for one in scene.struck)


def _norm(arrays: Iterable[Floats]) -> float:
    return float(np.sqrt(sum(float(np.square(array).sum()) for array in arrays)))


@rule(_RUNG)
def new_masks(scene: Scene) -> Finding | None:
    """The loss is right, the gradient is not, and dropout is drawn."""
    if not scene.workload.dropout or not scene.finite or len(scene.names) < 2 or not scene.on_all_ranks:
        return None
    factor = _factor(scene.struck)
    if not 0.3 < factor < 1.5 or scene.explained([factor * one.wanted for one in scene.struck]):
        return None
    return Finding(
        cause="dropout-masks",
        strength=GUESS,
        words=f"{on_ranks(scene)}the loss of step {scene.step} is right and the gradient is another one: backward sees "
        "other dropout masks than forward did",
    )


def _factor(parts: tuple[Struck, ...] | list[Struck]) -> float:
    return ratio([one.values for one in parts], [one.wanted for one in parts])
