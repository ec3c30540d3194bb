"""One seed, trained serially and in parallel: what is compared, and what not even compression excuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.datasets.base import Labels
from harness.errors import TraceError
from harness.oracles import reasons
from harness.oracles.order import compare_order
from harness.oracles.precision import PRECISIONS, storable
from harness.oracles.tables import Floats, columns_of, scaled_norm
from harness.record import Divergence, Rung, RungFile, Trace
from harness.recorder import NUM_AT_END, read

# At the first step the weights are still the initial ones, so that only the communication can change the gradient.
# Measured: float16 3e-4, bfloat16 2e-3, PowerSGD 0 (it begins later); summed instead of averaged 1, a rank left out
# 0.4 to 0.6.
FIRST_GRADIENT = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """What one seed shows: (serial, parallel) of the held-out loss and, where both show them, of other quantities.

    ``training`` is the mean training loss, ``first`` and ``last`` are the mean logarithm of the gradient's length over
    the first steps but one and over the last ones: a gradient of another scale shows in no loss under Adam, which
    divides by it, and in its own length under SGD only until training has made up for it.
    ``start`` is the serial loss before the first update. ``broken`` is the exact condition that the parallel run does
    not keep, with ``why`` in words; ``alone`` says that no rank shared its work with another; ``not_shown`` are the
    conditions that could not be looked at, each with the reason.
    """

    seed: int
    start: float
    held_out: tuple[float, float]
    training: tuple[float, float] | None
    first: tuple[float, float] | None
    last: tuple[float, float] | None
    broken: Divergence | None
    why: str
    not_shown: dict[Rung, str]
    alone: bool = False


def observe(*, seed: int, reference: Trace, parallel: Sequence[Trace], labels: Labels, accumulation: int = 1) -> Pair:
    """Return what the traces of one seed show; ``labels`` are those of the held-out samples.

    Three things must hold exactly, as far as the strategy does not declare in ``not_shown`` that they cannot: every
    sample is trained once, in the step it belongs to; the first gradient is serial's to 10 %; all ranks end with the
    same parameters, to the rounding of float32.

    Raises:
        TraceError: a file is unreadable, or a rank neither shows nor declares what it should.
    """
    declared = {rung: reason for trace in (*parallel, reference) for rung, reason in trace.not_shown.items()}
    files = {rung: _files(rung, parallel, declared) for rung in (*_CONDITIONS, "loss", "predictions")}
    if not files["predictions"]:
        raise TraceError(f"expected held-out predictions but got none ({declared.get('predictions')}); tap the logits")
    broken, why = None, ""
    for rung, condition in _CONDITIONS.items():
        if rung in declared or broken is not None:
            continue
        broken, why = condition(reference, files[rung], accumulation)
    losses = _losses(reference.rungs["loss"])
    # The first step has its own condition.
    after = () if _GRADIENTS in declared else reference.rungs[_GRADIENTS].steps[1:]
    return Pair(
        seed=seed,
        start=float(losses[0]),
        held_out=(
            _held_out(reference.rungs["predictions"], labels),
            float(np.mean([_held_out(file, labels) for file in files["predictions"].values()])),
        ),
        training=None
        if "loss" in declared
        else (float(losses.mean()), float(np.mean([_losses(file).mean() for file in files["loss"].values()]))),
        first=None if _GRADIENTS in declared else _lengths(after[:NUM_AT_END], reference, files[_GRADIENTS]),
        last=None if _GRADIENTS in declared else _lengths(after[-NUM_AT_END:], reference, files[_GRADIENTS]),
        broken=broken,
        why=why,
        not_shown={rung: declared[rung] for rung in (*_CONDITIONS, "loss") if rung in declared},
    )


def held_out_loss(logits: Floats, labels: Labels) -> float:
    """Return the mean cross-entropy of ``logits`` [n, classes] against ``labels`` [n], in nats."""
    peak = logits.max(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        total = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
        return float(np.mean(total - logits[np.arange(len(labels)), labels]))


# -- what must hold exactly ------------------------------------------------------------------------------------------

_GRADIENTS: Rung = "gradients before clipping"
# One process may tell the data order for all, and predict for all.
_OF_SOME: frozenset[Rung] = frozenset({"data order", "predictions"})
Found = tuple[Divergence | None, str]
Condition = Callable[[Trace, Mapping[int, RungFile], int], Found]


def _order(reference: Trace, ranks: Mapping[int, RungFile], accumulation: int) -> Found:
    _, mistakes = compare_order(reference.rungs["data order"], ranks, accumulation=accumulation)
    if not mistakes:
        return None, ""
    step = min(mistakes)
    first, *others = mistakes[step]
    broken = _divergence("data order", step, first.rank, "samples", 1.0 + len(others), floor=0.0, threshold=0.0)
    return broken, reasons.misordered(step, first.text, 1 + len(others))


def _first_gradient(reference: Trace, ranks: Mapping[int, RungFile], _accumulation: int) -> Found:
    file = reference.rungs["gradients before clipping"]
    step = file.steps[0]
    serial = _row(file, step)
    size = scaled_norm(np.concatenate(list(serial.values())))
    for rank, shown in ranks.items():
        own = _row(shown, step)
        away = scaled_norm(np.concatenate([own[name] - values for name, values in serial.items()]))
        # "not <=": NaN is a difference, too.
        if not away <= FIRST_GRADIENT * size:
            broken = _divergence("gradients before clipping", step, rank, "all", away, threshold=FIRST_GRADIENT * size)
            told = reasons.number(storable(away / size)) if size else "infinitely many"
            return broken, (
                f"the first gradient, of weights that are still serial's, is {told} times its own length away from "
                f"serial's on rank {rank}; {FIRST_GRADIENT:g} is allowed"
            )
    return None, ""


def _same_parameters(_reference: Trace, ranks: Mapping[int, RungFile], _accumulation: int) -> Found:
    (first, file), *others = ranks.items()
    step = file.steps[-1]
    ours = _row(file, step)
    length, count = scaled_norm(np.concatenate(list(ours.values()))), sum(map(len, ours.values()))
    precision = PRECISIONS["float32"]
    for rank, other in others:
        theirs = _row(other, step)
        for name, values in ours.items():
            guard = precision.unit * max(scaled_norm(values), float(np.sqrt(len(values) / count)) * length)
            away = scaled_norm(theirs[name] - values)
            if not away <= precision.factor * guard:
                threshold = precision.factor * guard
                broken = _divergence("parameters", step, rank, name, away, floor=guard, threshold=threshold)
                return broken, (
                    f"ranks {first} and {rank} end with different parameters: {name} is "
                    f"{reasons.number(storable(broken.times_threshold))} times farther apart than rounding explains"
                )
    return None, ""


_CONDITIONS: dict[Rung, Condition] = {
    "data order": _order,
    "gradients before clipping": _first_gradient,
    "parameters": _same_parameters,
}


def _divergence(
    rung: Rung, step: int, rank: int, tensor: str, observed: float, *, threshold: float, floor: float = 0.0
) -> Divergence:
    return Divergence(
        rung=rung,
        step=step,
        rank=rank,
        tensor=tensor,
        observed=storable(observed),
        floor=storable(floor),
        threshold=storable(threshold),
    )


# -- reading traces --------------------------------------------------------------------------------------------------


def _files(rung: Rung, parallel: Sequence[Trace], declared: Mapping[Rung, str]) -> dict[int, RungFile]:
    """Return a rung's files by rank; one process may tell the data order for all."""
    files = {trace.rank: trace.rungs[rung] for trace in parallel if rung in trace.rungs}
    silent = [trace.rank for trace in parallel if trace.rank not in files]
    # What one rank declares does not excuse it where others show theirs: what cannot be shown, no rank shows.
    if silent and (files or rung not in declared) and not (rung in _OF_SOME and files):
        raise TraceError(
            f"rung {rung!r}: neither shown nor declared by rank {', '.join(map(str, silent))}; tap it, or declare in "
            "not_shown why this engine cannot show it"
        )
    if any(file.part for file in files.values()) and rung not in declared:
        raise TraceError(
            f"rung {rung!r}: expected whole tensors from every rank, to be judged statistically, but got pieces; "
            "declare in not_shown that no rank holds the whole"
        )
    return files


def _row(file: RungFile, step: int) -> dict[str, Floats]:
    """Return the flattened tensors of a rung at ``step``, by name."""
    if step not in file.steps:
        raise TraceError(f"expected step {step} in {file.file} but got {list(file.steps)}; tap every step")
    row = np.asarray(read(file)[file.steps.index(step)], dtype=np.float64)
    return {tensor.name: row[place] for tensor, place in columns_of(file)}


def _lengths(steps: Sequence[int], reference: Trace, ranks: Mapping[int, RungFile]) -> tuple[float, float]:
    """Return the mean logarithm of the gradient's length over ``steps``, serial and over the ranks."""
    parallel = float(np.mean([_log_length(file, steps) for file in ranks.values()]))
    return _log_length(reference.rungs[_GRADIENTS], steps), parallel


def _log_length(file: RungFile, steps: Sequence[int]) -> float:
    """Return the mean logarithm of a rung's length over ``steps``; -inf where one is zero."""
    lengths = [scaled_norm(np.concatenate(list(_row(file, step).values()))) for step in steps]
    with np.errstate(divide="ignore"):
        return float(np.mean(np.log(lengths)))


def _losses(file: RungFile) -> Floats:
    return np.asarray(read(file)[:, 0], dtype=np.float64)


def _held_out(file: RungFile, labels: Labels) -> float:
    shape = next(tensor.shape for tensor in file.tensors if tensor.name == "logits")
    logits = _row(file, file.steps[-1])["logits"].reshape(shape)
    return held_out_loss(logits, labels[: len(logits)])
