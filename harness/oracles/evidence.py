"""Everything that is compared between a parallel run and its reference, before anything is concluded from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import TraceError
from harness.oracles.order import Mistake, compare_order
from harness.oracles.pieces import require_cover
from harness.oracles.precision import Precision, precision_of
from harness.oracles.rungs import Comparison, Rerun, compare_rung
from harness.record import LADDER, Rung, RungFile, Trace
from harness.recorder import read


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Everything compared, in ladder order, and what follows from it for each tensor."""

    precision: Precision
    factor: float
    comparisons: tuple[Comparison, ...]
    mistakes: Mapping[int, tuple[Mistake, ...]]
    not_shown: dict[Rung, str]
    num_ranks: int
    no_signal: tuple[str, ...]
    unresolved: dict[str, float]
    covered: tuple[str, ...]
    losses: tuple[tuple[float, float], ...]
    reference: Trace
    reruns: tuple[Trace, ...]
    parallel: tuple[Trace, ...]


def gather(
    *,
    reference: Trace,
    reruns: Sequence[tuple[str, Trace, Trace]],
    parallel: Sequence[Trace],
    dtype: str,
    factor: float | None = None,
    accumulation: int = 1,
) -> Evidence:
    """Compare every rung that is shown; ``reruns`` are (name, a serial run, the same run summed in another order)."""
    precision = precision_of(dtype)
    _require_traces(reruns, parallel)
    shown, not_shown = _shown(reference, parallel)
    mistakes: Mapping[int, tuple[Mistake, ...]] = {}
    comparisons = []
    for rung, ranks in shown.items():
        if rung == "data order":
            comparison, mistakes = compare_order(reference.rungs[rung], ranks, accumulation=accumulation)
        else:
            comparison = compare_rung(rung, reference.rungs[rung], _files(rung, reruns), ranks, precision.unit)
        comparisons.append(comparison)
    limit = precision.factor if factor is None else factor
    no_signal = _no_signal(reference, reruns, comparisons, precision)
    unresolved, covered = _coverage(comparisons, no_signal, limit, precision)
    return Evidence(
        precision=precision,
        factor=limit,
        comparisons=tuple(comparisons),
        mistakes=mistakes,
        not_shown=not_shown,
        num_ranks=len(parallel),
        no_signal=no_signal,
        unresolved=unresolved,
        covered=covered,
        losses=_losses(reference, parallel),
        reference=reference,
        reruns=tuple(again for _, _, again in reruns),
        parallel=tuple(parallel),
    )


def _require_traces(reruns: Sequence[tuple[str, Trace, Trace]], parallel: Sequence[Trace]) -> None:
    ranks = [trace.rank for trace in parallel]
    if not ranks or len(set(ranks)) < len(ranks):
        raise TraceError(f"expected one trace from each rank but got ranks {ranks}; return one trace a rank")
    idle = [trace.rank for trace in parallel if not any(map(_has_values, trace.rungs.values()))]
    if idle:
        raise TraceError(
            f"expected every rank to show something of its training but rank {', '.join(map(str, idle))} shows nothing "
            "in any rung; tap what it holds"
        )
    if not reruns:
        raise TraceError("expected at least one rerun of the reference but got none: without one, rounding is unknown")


def _files(rung: Rung, reruns: Sequence[tuple[str, Trace, Trace]]) -> list[Rerun]:
    for name, first, again in reruns:
        if rung not in first.rungs or rung not in again.rungs:
            raise TraceError(f"rung {rung!r} of {name}: expected it as in the reference but it is absent; run it again")
    return [Rerun(first=first.rungs[rung], again=again.rungs[rung], who=name) for name, first, again in reruns]


def _has_values(file: RungFile | None) -> bool:
    return file is not None and bool(file.steps) and any(0 not in tensor.shape for tensor in file.tensors)


def _shown(reference: Trace, parallel: Sequence[Trace]) -> tuple[dict[Rung, dict[int, RungFile]], dict[Rung, str]]:
    """Return the files of each rung by rank, in ladder order, and why the other rungs are not shown."""
    shown: dict[Rung, dict[int, RungFile]] = {}
    not_shown: dict[Rung, str] = {}
    for rung in LADDER:
        # Rank 0's buffers are the ones that live on, or those of every rank that holds some; the others get them at the
        # next forward.
        parts = {trace.rank for trace in parallel if rung in trace.rungs and trace.rungs[rung].part}
        traces = [trace for trace in parallel if rung != "buffers" or trace.rank == 0 or trace.rank in parts]
        files = {trace.rank: trace.rungs[rung] for trace in traces if _has_values(trace.rungs.get(rung))}
        if not _has_values(reference.rungs.get(rung)):
            if files and rung not in reference.not_shown:
                raise TraceError(
                    f"rung {rung!r}: expected it in the reference as rank {min(files)} shows it, but the reference "
                    "neither has nor declares it in not_shown; is it the reference of this workload?"
                )
            if rung in reference.not_shown:
                not_shown[rung] = f"by the reference: {reference.not_shown[rung]}"
            continue
        silent = {trace.rank: trace.not_shown.get(rung) for trace in traces if trace.rank not in {*files, *parts}}
        _require_reasons(rung, silent, some=bool(files))
        if files:
            shown[rung] = files
        elif parts and not silent:
            require_cover(rung, reference.rungs[rung], ())
        if silent and (rung != "data order" or not files):
            told = next((reason for reason in silent.values() if reason), "rank 0 left no trace")
            not_shown[rung] = f"on rank {', '.join(map(str, silent))}: {told}" if files else told
        elif not traces:
            not_shown[rung] = "rank 0 left no trace"
    return shown, not_shown


def _require_reasons(rung: Rung, silent: Mapping[int, str | None], *, some: bool) -> None:
    """Raise unless every silent rank says why; one process may tell the data order for all."""
    guilty = [rank for rank, reason in silent.items() if reason is None]
    if guilty and not (rung == "data order" and some):
        raise TraceError(
            f"rung {rung!r}: neither shown nor declared by rank {', '.join(map(str, guilty))}; tap it, declare in "
            "not_shown why this engine cannot show it, or say with holds_part that other ranks hold it"
        )


def _no_signal(
    reference: Trace,
    reruns: Sequence[tuple[str, Trace, Trace]],
    comparisons: Sequence[Comparison],
    precision: Precision,
) -> tuple[str, ...]:
    """Return the trained tensors whose gradient is rounding noise, or always zero, in the reference itself."""
    rung: Rung = "gradients before clipping"
    found = find(comparisons, rung)
    if found is None and _has_values(reference.rungs.get(rung)):
        own = [rerun for rerun in reruns if rerun[1] is reference]
        found = compare_rung(rung, reference.rungs[rung], _files(rung, own), {}, precision.unit)
    if found is None:
        return ()
    signal = found.noise.max(axis=0) <= precision.noise * found.size.max(axis=0)
    signal &= found.size.max(axis=0) > 0
    return tuple(tensor.name for tensor, has in zip(found.tensors, signal, strict=True) if tensor.trainable and not has)


def _coverage(
    comparisons: Sequence[Comparison], no_signal: Sequence[str], factor: float, precision: Precision
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the unresolved tensors, each with its allowed error over its movement, and the tensors truly covered."""
    parameters = find(comparisons, "parameters")
    found = parameters or find(comparisons, "gradients before clipping")
    if found is None:
        return {}, ()
    signal = {
        tensor.name: i for i, tensor in enumerate(found.tensors) if tensor.trainable and tensor.name not in no_signal
    }
    unresolved: dict[str, float] = {}
    if parameters is not None:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            resolution = factor * parameters.floor[-1] / parameters.moved
        unresolved = {
            name: float(resolution[i]) for name, i in signal.items() if not resolution[i] <= precision.resolution
        }
    return unresolved, tuple(name for name in signal if name not in unresolved)


def find(comparisons: Sequence[Comparison], rung: Rung) -> Comparison | None:
    """Return the comparison of ``rung``, or None where it is not shown."""
    return next((comparison for comparison in comparisons if comparison.rung == rung), None)


def _losses(reference: Trace, parallel: Sequence[Trace]) -> tuple[tuple[float, float], ...]:
    """Return (reference, parallel) loss of each step, of the rank furthest away; up to the first that is no number."""
    found = (trace.rungs.get("loss") for trace in (reference, *parallel))
    files = [file for file in found if file is not None and _has_values(file)]
    if not _has_values(reference.rungs.get("loss")) or len(files) < 2:
        return ()
    serial, *ranks = (np.asarray(read(file), dtype=np.float64)[:, 0] for file in files)
    losses = []
    for loss, *others in zip(serial, *ranks, strict=True):
        if not np.isfinite([loss, *others]).all():
            break
        losses.append((float(loss), float(max(others, key=lambda other: abs(other - loss)))))
    return tuple(losses)
