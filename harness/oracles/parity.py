"""Does a parallel run compute what its serial reference computes? The verdict over rungs, steps, ranks and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from harness.oracles import numerals, reasons
from harness.oracles.diagnosis.base import diagnose
from harness.oracles.diagnosis.scene import Context
from harness.oracles.evidence import Evidence, find, gather
from harness.oracles.heat import heat
from harness.oracles.precision import storable
from harness.oracles.rungs import Comparison
from harness.oracles.tables import Floats
from harness.record import Conclusion, Divergence, RungSummary, Trace, Verdict

# Two ranks that deviate by the same amount, but for rounding, deviate alike: the lower one is named.
ALIKE = 0.99


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Where judging ends: the reference is no number, or a rank has left it."""

    comparison: Comparison
    row: int
    judgeable: bool


def judge(
    *,
    reference: Trace,
    reruns: Sequence[Trace],
    parallel: Sequence[Trace],
    reference_name: str = "plain",
    dtype: str = "float64",
    factor: float | None = None,
    accumulation: int = 1,
    reruns_of: Trace | None = None,
    context: Context | None = None,
) -> Verdict:
    """Judge the traces of all ranks against a single-process ``reference`` and its ``reruns``.

    ``reruns`` are the reference again in another order of summation: once as shards, once permuted and sharded at
    least; ``reruns_of`` is the run that they repeat where that is not ``reference``: rounding is what lies between
    those, while reruns of another mathematics held against ``reference`` would pass the difference off as rounding.
    ``factor`` overrides K; ``accumulation`` only helps to say whose mistake a wrong data order is. With
    ``context`` a run that differs is diagnosed. Definition and constants: see ``harness.oracles.rungs`` and
    ``harness.oracles.precision``.

    Raises:
        TraceError: a file is unreadable, or the traces do not describe the same tensors, shapes, steps and rungs.
        SpecError: no constants are known for ``dtype``.
    """
    first = reference if reruns_of is None else reruns_of
    evidence = gather(
        reference=reference,
        reruns=tuple((f"rerun {i}", first, rerun) for i, rerun in enumerate(reruns)),
        parallel=parallel,
        dtype=dtype,
        factor=factor,
        accumulation=accumulation,
    )
    against = "serial" if reference_name == "plain" else f"the reference {reference_name!r}"
    verdict = conclude(evidence, reference_name=reference_name, against=against)
    if context is None or verdict.divergence is None:
        return verdict
    return msgspec.structs.replace(verdict, diagnosis=diagnose(verdict.divergence, evidence, context))


def compare(
    *,
    reference: Trace,
    reruns: Sequence[Trace],
    parallel: Sequence[Trace],
    dtype: str = "float64",
    factor: float | None = None,
    reruns_of: Trace | None = None,
) -> Divergence | None:
    """Return the first divergence from another reference, as ``Verdict.plain`` holds it, or None; see ``judge``."""
    return judge(
        reference=reference, reruns=reruns, parallel=parallel, dtype=dtype, factor=factor, reruns_of=reruns_of
    ).divergence


def conclude(evidence: Evidence, *, reference_name: str, against: str) -> Verdict:
    """Return the verdict that ``evidence`` supports; ``against`` names the reference in its sentence."""
    summaries = tuple(_summary(comparison) for comparison in evidence.comparisons)
    margin = max((summary.ratio for summary in summaries), default=0.0)
    event = _first_event(evidence)
    divergence = None
    conclusion: Conclusion
    if event is not None and event.judgeable:
        divergence, reason = _divergence(event, evidence)
        conclusion = "different"
    elif event is not None:
        tensor = int(np.argmin(event.comparison.judgeable[event.row]))
        rung, step = event.comparison.rung, event.comparison.steps[event.row]
        name = event.comparison.tensors[tensor].name
        kind = numerals.odd((evidence.reference, *evidence.reruns), rung, step, name)
        conclusion, reason = "inconclusive", reasons.not_finite(rung, step, name, kind)
    else:
        conclusion, reason = _undisturbed(evidence, margin, against)
    if conclusion == "different" and evidence.precision.chaotic:
        reason += reasons.CHAOTIC
    return Verdict(
        conclusion=conclusion,
        reason=reason,
        reference=reference_name,
        factor=evidence.factor,
        margin=margin,
        divergence=divergence,
        rungs=summaries,
        not_shown=evidence.not_shown,
        no_signal=evidence.no_signal,
        unresolved=tuple(evidence.unresolved),
        num_tensors=len(evidence.covered),
        curve=_curve(evidence),
        losses=evidence.losses,
        heat=heat(evidence.comparisons, evidence.factor),
    )


def _undisturbed(evidence: Evidence, margin: float, against: str) -> tuple[Conclusion, str]:
    """Conclude when no deviation exceeds rounding."""
    if evidence.unresolved:
        worst = storable(max(evidence.unresolved.values()))
        limit = evidence.precision.resolution
        return "inconclusive", reasons.unresolved(tuple(evidence.unresolved), worst, limit)
    if not evidence.covered:
        return "inconclusive", reasons.uncovered(evidence.no_signal)
    steps = {step for comparison in evidence.comparisons for step in comparison.steps if step >= 0}
    return "equivalent", reasons.equal(
        against,
        margin,
        evidence.factor,
        num_steps=len(steps),
        num_ranks=evidence.num_ranks,
        num_tensors=len(evidence.covered),
        num_rungs=len(evidence.comparisons),
    )


def _summary(comparison: Comparison) -> RungSummary:
    ratios = np.where(comparison.held[:, None, :], comparison.ratios(), -1.0)
    rank, step, tensor = np.unravel_index(int(np.argmax(ratios)), ratios.shape)
    return RungSummary(
        rung=comparison.rung,
        ratio=storable(float(ratios[rank, step, tensor])),
        step=comparison.steps[step],
        rank=comparison.ranks[rank],
        tensor=comparison.tensors[tensor].name,
        num_compared=int(comparison.held.sum()) * len(comparison.steps),
    )


def _first_event(evidence: Evidence) -> Event | None:
    """Return the earliest step, and within it the first rung of the ladder, where judging ends."""
    events = []
    for place, comparison in enumerate(evidence.comparisons):
        lost = (~comparison.judgeable).any(axis=1)
        exceeds = (comparison.deviation > evidence.factor * comparison.floor).any(axis=(0, 2))
        rows = np.flatnonzero(lost | exceeds)
        if rows.size:
            row = int(rows[0])
            event = Event(comparison=comparison, row=row, judgeable=bool(comparison.judgeable[row].all()))
            events.append((comparison.steps[row], place, event))
    return min(events, key=lambda event: event[:2])[2] if events else None


def _divergence(event: Event, evidence: Evidence) -> tuple[Divergence, str]:
    found, row = event.comparison, event.row
    deviation, floor = found.deviation[:, row], found.floor[row]
    rank, tensor = _worst(deviation, found.ratios()[:, row])
    if found.rung == "activations":
        # Layers feed each other: the first one that is off is the one that is wrong.
        tensor = int(np.argmax((deviation > evidence.factor * floor).any(axis=0)))
        rank = int(np.argmax(deviation[:, tensor]))
    observed, threshold = float(deviation[rank, tensor]), evidence.factor * float(floor[tensor])
    divergence = Divergence(
        rung=found.rung,
        step=found.steps[row],
        rank=found.ranks[rank],
        tensor=found.tensors[tensor].name,
        observed=storable(observed),
        floor=storable(float(floor[tensor])),
        threshold=storable(threshold),
    )
    if divergence.rung == "data order":
        mistakes = evidence.mistakes[divergence.step]
        first = next(mistake for mistake in mistakes if mistake.rank == divergence.rank)
        return divergence, reasons.misordered(divergence.step, first.text, len(mistakes))
    guilty = [r for i, r in enumerate(found.ranks) if deviation[i, tensor] > threshold]
    return divergence, reasons.differs(divergence, guilty, evidence.num_ranks, _kind(divergence, evidence, observed))


def _kind(divergence: Divergence, evidence: Evidence, observed: float) -> str:
    """Return in words what kind of numbers the guilty rank holds where that alone tells what is wrong."""
    (guilty,) = (trace for trace in evidence.parallel if trace.rank == divergence.rank)
    rung, tensor = divergence.rung, divergence.tensor
    if not np.isfinite(observed):
        return reasons.odd(numerals.odd((guilty,), rung, divergence.step, tensor))
    narrower = numerals.narrower(guilty, evidence.reference, rung, tensor)
    return reasons.narrower(*narrower) if narrower else ""


def _worst(deviation: Floats, ratios: Floats) -> tuple[int, int]:
    """Return (rank, tensor) with the largest ratio; where floors are zero, with the largest deviation."""
    score = np.where(np.isinf(ratios), deviation, -1.0) if np.isinf(ratios).any() else ratios
    tensor = int(np.argmax(score.max(axis=0)))
    rank = int(np.flatnonzero(score[:, tensor] >= ALIKE * score[:, tensor].max())[0])
    return rank, tensor


def _curve(evidence: Evidence) -> tuple[tuple[float, float, float], ...]:
    """Return for each step the closest call of the parameters: D, its floor, its threshold."""
    found = find(evidence.comparisons, "parameters")
    if found is None:
        return ()
    ratios = found.ratios()
    curve = []
    for row, step in enumerate(found.steps):
        rank, tensor = _worst(found.deviation[:, row], ratios[:, row])
        floor = float(found.floor[row, tensor])
        if step >= 0:
            point = (float(found.deviation[rank, row, tensor]), floor, evidence.factor * floor)
            curve.append((storable(point[0]), storable(point[1]), storable(point[2])))
    return tuple(curve)
