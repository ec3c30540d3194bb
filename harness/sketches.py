"""Sketches of large tensors: 512 numbers whose norm estimates the tensor's, and which add up over a tensor's pieces.

A tensor is seen as a matrix x of its first dimension by all others; one with a single dimension is folded into rows.
Its rows lie in bands. With random row weights s and column weights w and a random bucket h(c) of every column:

    y[band, c] = sum over rows r of the band: s[r] x[r, c]              one pass over the memory
    sketch[k]  = sum over (band, c) with (h(c) + 31 band) mod 512 = k: w[c] y[band, c]

Weights depend on an element's place in the whole only, so that sketches are linear, and those of shards sum up to that
of the whole. They are of random sign and between half and one and a half in size: a single element is always seen, and
equal elements don't cancel, as they may under weights of 1 and -1. The mean of ||sketch||^2 over weights is ||x||^2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.record import SKETCH_SIZE

# Width into which a tensor of one dimension is folded.
FOLD = 1024
# There are 16 bands, but none has more than 512 rows, as in float32 a product rounds the more the longer it is, or less
# than 64, which would cost time, unless the tensor is so narrow that it needs more bands to fill the buckets.
NUM_BANDS, FEWEST_ROWS, MOST_ROWS = 16, 64, 512
# By how many buckets a band is turned against the one before.
TURN = 31
# Brings the weights, of a size drawn evenly between 1/2 and 3/2, to a mean square of 1.
_SCALE = 1 / math.sqrt(13 / 12)

Floats = NDArray[np.float64]
# (weights of rows [r], an array of shape [r, c] of whatever library) -> their product [c].
Multiply = Callable[[NDArray[np.floating[Any]], Any], NDArray[np.floating[Any]]]


def matrix_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (rows, columns) of the matrix as which a tensor of ``shape`` is sketched."""
    if len(shape) > 1:
        return shape[0], math.prod(shape[1:])
    return -(-math.prod(shape) // FOLD), FOLD


def sketch(
    value: Any, *, shape: tuple[int, ...] | None = None, start: tuple[int, ...] = (), multiply: Multiply = np.matmul
) -> Floats:
    """Return the sketch of ``value``, which is the tensor of ``shape`` or a piece of it, shape (512,).

    A piece is the box that begins at ``start``; with one number in ``start`` and several dimensions in ``shape``, it is
    the range of the flattened tensor from there. ``value`` may be of any library whose arrays reshape and slice like
    numpy's; ``multiply`` multiplies them with numpy's. Products in another library's order differ by rounding.
    """
    shape = tuple(value.shape) if shape is None else shape
    rows, columns = matrix_of(shape)
    height = _height(rows, columns)
    buckets, column_weights = _columns(columns)
    total = np.zeros(SKETCH_SIZE)
    for tile in _tiles(value, shape, start or (0,) * len(shape)):
        num_rows = tile.values.shape[0]
        kind = str(tile.values.dtype).removeprefix("torch.")
        row_weights = _rows(rows, kind if kind == "float32" else "float64")[tile.row : tile.row + num_rows]
        places, weights = buckets[tile.columns], column_weights[tile.columns]
        for band in range(tile.row // height, -(-(tile.row + num_rows) // height)):
            first, last = max(0, band * height - tile.row), min(num_rows, (band + 1) * height - tile.row)
            products = multiply(row_weights[first:last], tile.values[first:last]) * weights
            total += np.roll(np.bincount(places, products, SKETCH_SIZE), TURN * band)
    return total


def _height(rows: int, columns: int) -> int:
    """Return the rows of a band; of a narrow tensor so few that its bands and columns still fill the buckets."""
    wide = min(max(FEWEST_ROWS, -(-rows // NUM_BANDS)), MOST_ROWS)
    return min(wide, max(1, rows * columns // SKETCH_SIZE))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tile:
    """A part of the matrix: ``values`` [r, c] from ``row`` on, in the given ``columns``."""

    values: Any
    row: int
    columns: slice | NDArray[np.intp]


def _tiles(value: Any, shape: tuple[int, ...], start: tuple[int, ...]) -> Iterator[_Tile]:
    if 0 in value.shape:
        return
    columns = matrix_of(shape)[1]
    if len(start) < 2:
        yield from _range(value.reshape(-1), start[0] if start else 0, columns)
        return
    inner = tuple(slice(first, first + size) for first, size in zip(start[1:], value.shape[1:], strict=True))
    whole = tuple(value.shape[1:]) == shape[1:]
    taken = slice(None) if whole else np.arange(columns).reshape(shape[1:])[inner].reshape(-1)
    yield _Tile(values=value.reshape(value.shape[0], -1), row=start[0], columns=taken)


def _range(values: Any, first: int, columns: int) -> Iterator[_Tile]:
    """Yield the range that begins at flat position ``first``: the rest of a row, whole rows, the beginning of one."""
    size = values.shape[0]
    row, column = divmod(first, columns)
    head = min(size, columns - column) if column else 0
    body = head + (size - head) // columns * columns
    if head:
        yield _Tile(values=values[:head].reshape(1, -1), row=row, columns=slice(column, column + head))
        row += 1
    if body > head:
        yield _Tile(values=values[head:body].reshape(-1, columns), row=row, columns=slice(None))
        row += (body - head) // columns
    if size > body:
        yield _Tile(values=values[body:].reshape(1, -1), row=row, columns=slice(0, size - body))


@functools.lru_cache(maxsize=64)
def _rows(num_rows: int, kind: str) -> NDArray[np.floating[Any]]:
    return _weights(_bits(num_rows, key=1)).astype(kind)


@functools.lru_cache(maxsize=64)
def _columns(num_columns: int) -> tuple[NDArray[np.intp], Floats]:
    """Return every column's bucket and weight."""
    bits = _bits(num_columns, key=2)
    return (bits % SKETCH_SIZE).astype(np.intp), _weights(bits)


def _bits(size: int, *, key: int) -> NDArray[np.uint64]:
    """Return the first ``size`` words of a counter-based generator: the same on every machine, for ever."""
    return np.random.Philox(key=key).random_raw(size)


def _weights(bits: NDArray[np.uint64]) -> Floats:
    """Return weights of random sign (the topmost bit) and of a size between 1/2 and 3/2 (the 32 bits below)."""
    sizes = 0.5 + ((bits >> np.uint64(31)) & np.uint64(0xFFFFFFFF)).astype(np.float64) / 2**32
    return np.where(bits >> np.uint64(63), -_SCALE, _SCALE) * sizes
