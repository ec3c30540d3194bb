"""A rung's table in blocks of rows, and the L2 norms of all its tensors at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import TraceError
from harness.record import Rung, RungFile, Tensor
from harness.recorder import read

Floats = NDArray[np.float64]

# Values a block: big enough that numpy's cost per call vanishes, small enough that a block stays in the cache.
BLOCK = 1 << 17


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Which columns of a table belong to which tensor; tensors without values are left out.

    ``counts`` are the tensors' values, ``sizes`` their columns: fewer where only a sketch is kept.
    """

    tensors: tuple[Tensor, ...]
    counts: NDArray[np.intp]
    sizes: NDArray[np.intp]
    starts: NDArray[np.intp]

    @property
    def width(self) -> int:
        """Values in a row."""
        return int(self.sizes.sum())

    @property
    def slices(self) -> tuple[slice, ...]:
        """Every tensor's columns."""
        pairs = zip(self.starts.tolist(), self.sizes.tolist(), strict=True)
        return tuple(slice(start, start + size) for start, size in pairs)


def layout(rung: RungFile) -> Layout:
    """Return the layout of ``rung``."""
    return layout_of([tensor for tensor in rung.tensors if 0 not in tensor.shape])


def layout_of(tensors: Sequence[Tensor]) -> Layout:
    """Return the layout of a table of ``tensors``, none of them empty."""
    sizes = np.array([tensor.num_values for tensor in tensors], dtype=np.intp)
    counts = np.array([math.prod(tensor.shape) for tensor in tensors], dtype=np.intp)
    return Layout(tensors=tuple(tensors), counts=counts, sizes=sizes, starts=np.cumsum(sizes) - sizes)


def columns_of(rung: RungFile) -> Iterator[tuple[Tensor, slice]]:
    """Yield every tensor of a rung, empty ones too, with its columns of the table."""
    start = 0
    for tensor in rung.tensors:
        yield tensor, slice(start, start + tensor.num_values)
        start += tensor.num_values


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A rung's values, shape (steps, values), with the column ranges that bring it into another table's order."""

    values: NDArray[np.generic]
    order: tuple[slice, ...] | None = None

    def rows(self, first: int, last: int) -> Floats:
        """Return rows ``first`` to ``last`` in float64."""
        rows = np.asarray(self.values[first:last], dtype=np.float64)
        return rows if self.order is None else np.concatenate([rows[:, columns] for columns in self.order], axis=1)

    def apart(self, first: int, last: int, rows: Floats, columns: Layout) -> Floats:
        """Return how far its tensors are from ``rows`` of the reference, shape (rows, tensors)."""
        return distances(self.rows(first, last), rows, columns)

    def held(self, columns: Layout) -> NDArray[np.bool_]:
        """Return of which tensors it has something, shape (tensors,): all."""
        return np.ones(len(columns.tensors), dtype=np.bool_)


def open_table(rung: Rung, file: RungFile, *, like: RungFile, who: str) -> Table:
    """Open ``file`` of ``who`` (for messages) in the tensor order of ``like``.

    Raises:
        TraceError: the file is unreadable, holds a part, or its steps, tensors or shapes are not those of ``like``.
    """
    if file.part:
        raise TraceError(
            f"rung {rung!r} of {who}: expected whole tensors but it says that other ranks hold some; a reference is a "
            "single process, which holds everything"
        )
    require_steps(rung, file, like=like, who=who)
    values = read(file)
    if file.tensors == like.tensors:
        return Table(values=values)
    _require_same_tensors(rung, file, like, who)
    columns = {tensor.name: place for tensor, place in columns_of(file)}
    return Table(values=values, order=tuple(columns[tensor.name] for tensor in like.tensors))


def require_steps(rung: Rung, file: RungFile, *, like: RungFile, who: str) -> None:
    """Raise TraceError unless ``file`` has the steps of ``like``."""
    if file.steps != like.steps:
        raise TraceError(
            f"rung {rung!r} of {who}: expected steps {_range(like.steps)} as in the reference but got "
            f"{_range(file.steps)}; every rank must tap every step"
        )


def _range(steps: Sequence[int]) -> str:
    if not steps:
        return "(none)"
    whole = steps[-1] - steps[0] + 1 == len(steps) and all(b == a + 1 for a, b in itertools.pairwise(steps))
    return f"{steps[0]} to {steps[-1]}" if whole else str(list(steps))


def _require_same_tensors(rung: Rung, file: RungFile, like: RungFile, who: str) -> None:
    ours = {tensor.name: tensor.shape for tensor in file.tensors}
    wanted = {tensor.name: tensor.shape for tensor in like.tensors}
    missing = [name for name in wanted if name not in ours]
    unexpected = [name for name in ours if name not in wanted]
    if missing or unexpected or len(ours) < len(file.tensors):
        raise TraceError(
            f"rung {rung!r} of {who}: expected the tensors of the reference but it lacks {listed_tensors(missing)} and "
            f"has {listed_tensors(unexpected)} besides, {len(file.tensors)} in all; tap every tensor once, by its "
            "canonical name, or say with holds_part that other ranks hold the rest"
        )
    sketched = {tensor.name: tensor.sketched for tensor in like.tensors}
    for tensor in file.tensors:
        require_sketch(rung, tensor, sketched[tensor.name], who)
    for name, shape in wanted.items():
        if ours[name] != shape:
            raise TraceError(
                f"rung {rung!r} of {who}: expected shape {shape} of {name} as in the reference but got {ours[name]}; "
                "tap whole tensors in the canonical layout"
            )


def require_sketch(rung: Rung, tensor: Tensor, expected: tuple[int, int] | None, who: str) -> None:
    """Raise TraceError unless ``tensor`` is kept as in the reference: whole, or as the sketch of the same matrix."""
    if tensor.sketched != expected:
        raise TraceError(
            f"rung {rung!r} of {who}: expected {_kept(expected)} of {tensor.name} as in the reference but got "
            f"{_kept(tensor.sketched)}; run both with the same sketch_above, and give a piece the tensor's own shape "
            "for its whole"
        )


def _kept(sketched: tuple[int, int] | None) -> str:
    return "all values" if sketched is None else f"the sketch of a matrix of shape {sketched}"


def listed_tensors(names: Sequence[str]) -> str:
    """Return the first names and how many there are besides."""
    shown = ", ".join(names[:5]) or "none"
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def blocks(num_rows: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of the row blocks in which a table is worked through."""
    height = max(1, BLOCK // max(1, width))
    for first in range(0, num_rows, height):
        yield first, min(first + height, num_rows)


def norms(rows: Floats, columns: Layout) -> Floats:
    """Return the L2 norm of every tensor in every row, shape (rows, tensors); infinite where a value is not finite.

    Norms below 1e-162 are lost to underflow and count as zero; sums of squares beyond float64 are taken again, scaled.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        result = _roots(np.square(rows), columns)
    for row, tensor, values in _overflown(result, columns):
        result[row, tensor] = scaled_norm(rows[row, values])
    return result


def distances(rows: Floats, others: Floats, columns: Layout) -> Floats:
    """Return ``norms(rows - others)``, with one temporary array instead of two.

    Two of a block's size are more than malloc keeps: every page would be asked of the kernel again, block after block,
    which costs 17 times the arithmetic.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        squares = rows - others
        result = _roots(np.square(squares, out=squares), columns)
        for row, tensor, values in _overflown(result, columns):
            result[row, tensor] = scaled_norm(rows[row, values] - others[row, values])
    return result


def _roots(squares: Floats, columns: Layout) -> Floats:
    result: Floats = np.sqrt(np.add.reduceat(squares, columns.starts, axis=1))
    return result


def _overflown(result: Floats, columns: Layout) -> Iterator[tuple[int, int, slice]]:
    """Yield where a norm is not finite: row, tensor, and the tensor's columns."""
    for row, tensor in np.argwhere(~np.isfinite(result)):
        start = columns.starts[tensor]
        yield row, tensor, slice(start, start + columns.sizes[tensor])


def scaled_norm(values: Floats) -> float:
    """Return the L2 norm of ``values`` without intermediate overflow, infinity when a value is not finite."""
    peak = float(np.max(np.abs(values), initial=0.0))
    if peak == 0.0 or not np.isfinite(peak):
        return 0.0 if peak == 0.0 else float("inf")
    with np.errstate(over="ignore"):
        return float(peak * np.sqrt(np.square(values / peak).sum()))
