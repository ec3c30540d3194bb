"""The closest call of every tensor: what a heat map of a case shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.oracles.precision import storable
from harness.oracles.rungs import Comparison
from harness.oracles.tables import Floats
from harness.record import LADDER, Heat, Rung

# The rungs that compare many tensors, in the order in which they tell the order of the model.
RUNGS: tuple[Rung, ...] = (
    "parameters",
    "gradients before clipping",
    "gradients after clipping",
    "optimizer state",
    "buffers",
    "buffers at next forward",
    "activations",
)
# What a reader takes in, and what keeps a record small.
MOST_TENSORS, MOST_STEPS = 48, 64
# In a table of ratios: the rung has no such tensor, or its reference is no number.
_NONE = -1.0


def heat(comparisons: Sequence[Comparison], factor: float) -> Heat | None:
    """Return the ratios D / max(F, G) of every tensor; None where no rung of RUNGS was compared.

    Step by step goes the rung that first exceeds ``factor``, else the one that comes closest to it.
    """
    seen = {rung: found for rung in RUNGS for found in comparisons if found.rung == rung}
    if not seen:
        return None
    names = _in_model_order([_names(found) for found in seen.values()])
    tables = {rung: _by_step(found, names) for rung, found in seen.items()}
    calls = {rung: table.max(axis=0) for rung, table in tables.items()}
    worst = np.max(list(calls.values()), axis=0)
    kept = sorted(np.argsort(-worst, kind="stable")[:MOST_TENSORS].tolist())
    watched = min(seen, key=lambda rung: _urgency(seen[rung], tables[rung], factor))
    rows = _told_steps(tables[watched])
    return Heat(
        tensors=tuple(names[i] for i in kept),
        rungs={rung: tuple(_rounded(calls[rung][i]) for i in kept) for rung in LADDER if rung in seen},
        by_step_rung=watched,
        steps=tuple(seen[watched].steps[row] for row in rows),
        by_step=tuple(tuple(_rounded(tables[watched][row, i]) for row in rows) for i in kept),
        num_left_out=len(names) - len(kept),
    )


def _names(found: Comparison) -> list[str]:
    """Return whose each tensor is: ``exp_avg:conv1.weight``, an optimizer's, is ``conv1.weight``'s."""
    if found.rung != "optimizer state":
        return [tensor.name for tensor in found.tensors]
    return [tensor.name.partition(":")[2] or tensor.name for tensor in found.tensors]


def _in_model_order(lists: Sequence[Sequence[str]]) -> list[str]:
    """Return all names once, those of a module side by side: buffers stand beside their layer's parameters."""
    names = list(dict.fromkeys(name for each in lists for name in each))
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        first.setdefault(_module(name), place)
    return sorted(names, key=lambda name: first.get(name, first[_module(name)]))


def _module(name: str) -> str:
    return name.rpartition(".")[0] or name


def _by_step(found: Comparison, names: Sequence[str]) -> Floats:
    """Return the largest ratio over ranks, shape (steps, names)."""
    ratios = np.where(found.held[:, None, :] & found.judgeable, found.ratios(), _NONE).max(axis=0)
    places = {name: i for i, name in enumerate(names)}
    table = np.full((len(found.steps), len(names)), _NONE)
    # Several tensors of an optimizer are one parameter's.
    for name, column in zip(_names(found), ratios.T, strict=True):
        table[:, places[name]] = np.maximum(table[:, places[name]], column)
    return table


def _urgency(found: Comparison, table: Floats, factor: float) -> tuple[float, float, int]:
    """Sort key: the rung that exceeds first, of several the first of the ladder; else the one with the closest call."""
    rows = np.flatnonzero((table > factor).any(axis=1))
    if rows.size:
        return float(found.steps[rows[0]]), 0.0, LADDER.index(found.rung)
    return np.inf, -float(table.max()), RUNGS.index(found.rung)


def _told_steps(table: Floats) -> list[int]:
    """Return which rows are told: all, or as many as fit, spread evenly, and the one with the closest call."""
    if len(table) <= MOST_STEPS:
        return list(range(len(table)))
    spread = np.linspace(0, len(table) - 1, MOST_STEPS - 1).astype(int).tolist()
    return sorted({*spread, int(np.argmax(table.max(axis=1)))})


def _rounded(ratio: float) -> float | None:
    return None if ratio == _NONE else storable(float(f"{ratio:.3g}"))
