"""What kind of numbers a trace holds: NaN or infinity, and values that fit a narrower type than they are stored in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.oracles.tables import layout
from harness.record import Rung, RungFile, Trace
from harness.recorder import read

# So many different values fit a narrower type by chance only where all of them are short, like counts.
MIN_VALUES = 8
NOT_A_NUMBER = "not finite (NaN or infinity)"


def odd(traces: tuple[Trace, ...], rung: Rung, step: int, tensor: str) -> str:
    """Return ``NaN`` or ``infinity``, whichever a trace holds there first; both where that cannot be told."""
    for trace in traces:
        values = _values(trace.rungs.get(rung), tensor)
        row = values.get(step, np.empty(0))
        if not np.isfinite(row).all():
            return "NaN" if np.isnan(row[~np.isfinite(row)][0]) else "infinity"
    return NOT_A_NUMBER


def narrower(trace: Trace, reference: Trace, rung: Rung, tensor: str) -> tuple[str, str] | None:
    """Return (type of the trace's values, type of the reference's) where the trace's fit a narrower one, or None."""
    got = _narrowest(_values(trace.rungs.get(rung), tensor))
    expected = _narrowest(_values(reference.rungs.get(rung), tensor))
    return (got, expected) if got and expected and _WIDTHS[got] < _WIDTHS[expected] else None


_WIDTHS = {"bfloat16": 16, "float16": 16, "float32": 32, "float64": 64}


def _values(file: RungFile | None, tensor: str) -> dict[int, NDArray[np.float64]]:
    """Return what a rung holds of a tensor at each step, all its pieces; nothing where it does not hold it."""
    if file is None or not file.steps:
        return {}
    table, columns = read(file), layout(file)
    held = [
        slice(int(start), int(start + size))
        for own, start, size in zip(columns.tensors, columns.starts, columns.sizes, strict=True)
        if own.name == tensor
    ]
    rows = ([np.asarray(row[cut], dtype=np.float64) for cut in held] for row in table)
    return {step: np.concatenate(parts) for step, parts in zip(file.steps, rows, strict=True) if parts}


def _narrowest(rows: dict[int, NDArray[np.float64]]) -> str | None:
    """Return the narrowest type that every value fits; None where too few values could tell."""
    values = np.unique(np.concatenate(list(rows.values()))) if rows else np.empty(0)
    values = values[np.isfinite(values) & (values != 0)]
    if len(values) < MIN_VALUES:
        return None
    with np.errstate(over="ignore", under="ignore"):
        single = values.astype(np.float32)
        if not np.array_equal(single, values):
            return "float64"
        # Its significand is the shortest, so that float16 mostly has room for it, too.
        if not (single.view(np.uint32) & 0xFFFF).any():
            return "bfloat16"
        return "float16" if np.array_equal(values.astype(np.float16), values) else "float32"
