"""Sketches of a tensor's pieces, added over the ranks that hold them: what the whole tensor's sketch must equal.

Ranks may hold the same piece, as replicas do. Then there are as many sums as a piece has holders at most, and every
holder is in one of them at least:

    rank 0: piece A    rank 1: piece B    rank 2: piece A    rank 3: piece B     ->  0 + 1 and 2 + 3
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import TraceError
from harness.oracles.tables import Floats, Layout, norms
from harness.record import Rung, Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """The sketch of a piece: the tensor's place in the reference, the piece, and its columns in the holder's table."""

    owner: int
    piece: Tensor
    columns: slice


# A holder's place among the ranks, its table, and the sketch's columns in it.
Term = tuple[int, NDArray[np.generic], slice]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sum:
    """Pieces that together are the tensor at place ``owner`` of the reference."""

    owner: int
    terms: tuple[Term, ...]

    @property
    def ranks(self) -> list[int]:
        """The places of those who hold a piece, each once."""
        return sorted({rank for rank, _, _ in self.terms})

    def apart(self, first: int, last: int, rows: Floats, columns: Layout) -> Floats:
        """Return how far the sum is from the tensor's sketch in ``rows`` of the reference, shape (rows,)."""
        start = columns.starts[self.owner]
        rest = rows[:, start : start + columns.sizes[self.owner]].copy()
        with np.errstate(over="ignore", invalid="ignore"):
            for _, values, place in self.terms:
                rest -= np.asarray(values[first:last, place], dtype=np.float64)
        one = np.array([rest.shape[1]], dtype=np.intp)
        whole = Layout(tensors=(columns.tensors[self.owner],), counts=one, sizes=one, starts=one - one)
        distance: Floats = norms(rest, whole)[:, 0]
        return distance


def sums(rung: Rung, held: Mapping[int, tuple[NDArray[np.generic], Sequence[Shard]]], columns: Layout) -> Iterator[Sum]:
    """Yield the sums of what is ``held``: by the ranks' places, their tables and the sketches in them.

    Raises:
        TraceError: the pieces of a tensor overlap, so that no sum of them is the whole.
    """
    holders: dict[int, dict[Tensor, list[Term]]] = {}
    for rank, (values, shards) in held.items():
        for shard in shards:
            holders.setdefault(shard.owner, {}).setdefault(shard.piece, []).append((rank, values, shard.columns))
    for owner, pieces in holders.items():
        size = int(columns.counts[owner])
        for piece in [piece for piece in pieces if math.prod(piece.shape) == size]:
            yield from (Sum(owner=owner, terms=(term,)) for term in pieces.pop(piece))
        got = sum(math.prod(piece.shape) for piece in pieces)
        if pieces and got != size:
            raise TraceError(
                f"rung {rung!r}: expected that the pieces of {columns.tensors[owner].name}, of which only sketches are "
                f"kept, make up its {size} values but they have {got}; tap pieces that do not overlap, or raise "
                "sketch_above"
            )
        for number in range(max(map(len, pieces.values()), default=0)):
            yield Sum(owner=owner, terms=tuple(terms[min(number, len(terms) - 1)] for terms in pieces.values()))
