"""Pieces of a rung: what one rank holds of tensors that are spread over ranks, held against the same places."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import TraceError
from harness.oracles.shards import Shard
from harness.oracles.tables import (
    Floats,
    Layout,
    distances,
    layout,
    layout_of,
    listed_tensors,
    require_sketch,
    require_steps,
)
from harness.record import Rung, RungFile, Tensor
from harness.recorder import read


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Columns of the reference's table, or only the ``box`` in them when they are seen in the tensor's ``shape``."""

    columns: slice
    shape: tuple[int, ...] = ()
    box: tuple[slice, ...] = ()

    def of(self, rows: Floats) -> Floats:
        """Return the box of every row, shape (rows, values); without a copy where its values lie in one range."""
        if not self.box:
            return rows[:, self.columns]
        tensors = rows[:, self.columns].reshape(len(rows), *self.shape)
        return tensors[:, *self.box].reshape(len(rows), -1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What a rank holds of a rung: its values, and for each of its pieces whose it is and where it lies.

    ``owners`` are the pieces' tensors by their place in the reference. ``cuts`` together are all its ``columns``; those
    that follow each other in the reference, like the layers of a pipeline's stage, are one. Sketches of pieces are its
    ``shards``: they tell nothing alone. ``kept`` are its columns where it has such besides.
    """

    values: NDArray[np.generic]
    columns: Layout
    owners: tuple[int, ...]
    cuts: tuple[Cut, ...]
    shards: tuple[Shard, ...] = ()
    kept: NDArray[np.intp] | None = None

    def apart(self, first: int, last: int, rows: Floats, columns: Layout) -> Floats:
        """Return how far its pieces are from ``rows`` of the reference, shape (rows, tensors); 0 where it has none."""
        result = np.zeros((last - first, len(columns.tensors)))
        if not self.cuts:
            return result
        wanted = [cut.of(rows) for cut in self.cuts]
        others = wanted[0] if len(wanted) == 1 else np.concatenate(wanted, axis=1)
        own = np.asarray(self.values[first:last], dtype=np.float64)
        own = own if self.kept is None else own[:, self.kept]
        for owner, distance in zip(self.owners, distances(own, others, self.columns).T, strict=True):
            result[:, owner] = np.hypot(result[:, owner], distance)
        return result

    def held(self, columns: Layout) -> NDArray[np.bool_]:
        """Return of which tensors it has something, shape (tensors,)."""
        return np.isin(np.arange(len(columns.tensors)), [*self.owners, *(shard.owner for shard in self.shards)])


def open_part(rung: Rung, file: RungFile, *, like: RungFile, who: str) -> Part:
    """Open the pieces in ``file`` of ``who`` (for messages), which holds at least one value.

    Raises:
        TraceError: the file is unreadable, its steps are not those of ``like``, or it has pieces of other tensors.
    """
    require_steps(rung, file, like=like, who=who)
    wanted = layout(like)
    places = {tensor.name: i for i, tensor in enumerate(wanted.tensors)}
    known = {tensor.name: tensor.shape for tensor in like.tensors}
    sketched = {tensor.name: tensor.sketched for tensor in like.tensors}
    strange = [tensor.name for tensor in file.tensors if tensor.name not in known]
    if strange:
        raise TraceError(
            f"rung {rung!r} of {who}: expected pieces of the reference's tensors but it has {listed_tensors(strange)} "
            "besides; tap by canonical names"
        )
    for tensor in file.tensors:
        _require_shape(rung, tensor, known[tensor.name], who)
        require_sketch(rung, tensor, sketched[tensor.name], who)
    every = layout(file)
    columns = layout_of([tensor for tensor in every.tensors if tensor.sketched is None])
    owners = tuple(places[tensor.name] for tensor in columns.tensors)
    cuts = (_cut(tensor, int(wanted.starts[owner])) for tensor, owner in zip(columns.tensors, owners, strict=True))
    shards = tuple(
        Shard(owner=places[tensor.name], piece=tensor, columns=place)
        for tensor, place in zip(every.tensors, every.slices, strict=True)
        if tensor.sketched is not None
    )
    whole = np.repeat([tensor.sketched is None for tensor in every.tensors], every.sizes)
    return Part(
        values=read(file),
        columns=columns,
        owners=owners,
        cuts=tuple(_merged(cuts)),
        shards=shards,
        kept=np.flatnonzero(whole) if shards else None,
    )


def _require_shape(rung: Rung, piece: Tensor, shape: tuple[int, ...], who: str) -> None:
    allowed = {shape} if piece.whole is None else {shape, (math.prod(shape),)}
    whole = piece.shape if piece.whole is None else piece.whole
    if whole not in allowed:
        raise TraceError(
            f"rung {rung!r} of {who}: expected shape {shape} of {piece.name} as in the reference but got {whole}; tap "
            "whole tensors in the canonical layout, and pieces with the whole tensor's shape and their place in it"
        )


def _box(piece: Tensor) -> tuple[slice, ...]:
    start = piece.start or (0,) * len(piece.shape)
    return tuple(slice(first, first + size) for first, size in zip(start, piece.shape, strict=True))


def _cut(piece: Tensor, column: int) -> Cut:
    """Return the cut of ``piece`` from a row of the reference in which its tensor begins at ``column``."""
    whole, box = piece.whole or piece.shape, _box(piece)
    # Values lie in one range where, behind the first dimension that is longer than 1, every dimension is whole.
    outer = next((i for i, size in enumerate(piece.shape) if size > 1), len(whole))
    if piece.shape[outer + 1 :] != whole[outer + 1 :]:
        return Cut(columns=slice(column, column + math.prod(whole)), shape=whole, box=box)
    first = column + sum(cut.start * math.prod(whole[i + 1 :]) for i, cut in enumerate(box))
    return Cut(columns=slice(first, first + math.prod(piece.shape)))


def _merged(cuts: Iterable[Cut]) -> list[Cut]:
    merged: list[Cut] = []
    for cut in cuts:
        last = merged[-1] if merged else None
        if last and not last.box and not cut.box and last.columns.stop == cut.columns.start:
            merged[-1] = Cut(columns=slice(last.columns.start, cut.columns.stop))
        else:
            merged.append(cut)
    return merged


def require_cover(rung: Rung, reference: RungFile, ranks: Collection[RungFile]) -> None:
    """Raise unless all ranks together hold every value of ``reference``, in pieces or whole.

    Raises:
        TraceError: values that no rank holds: they would be taken for equal, unseen.
    """
    if any(not file.part for file in ranks):
        return
    pieces: dict[str, list[Tensor]] = {}
    for file in ranks:
        for tensor in file.tensors:
            pieces.setdefault(tensor.name, []).append(tensor)
    for tensor in layout(reference).tensors:
        missing = _missing(tensor, pieces.get(tensor.name, ()))
        if missing.size:
            place = tuple(map(int, np.unravel_index(missing[0], tensor.shape)))
            raise TraceError(
                f"rung {rung!r}: expected that the ranks together hold all of {tensor.name} but no rank holds elements "
                f"from {place}, {missing.size} of {math.prod(tensor.shape)}; tap every piece on the rank that holds "
                "it, with its place in the whole, or declare in not_shown why this engine cannot show the rung"
            )


def _missing(tensor: Tensor, pieces: Sequence[Tensor]) -> NDArray[np.intp]:
    """Return the flat positions in ``tensor`` that no piece covers."""
    if any(piece.shape == tensor.shape for piece in pieces):
        return np.empty(0, dtype=np.intp)
    covered = np.zeros(math.prod(tensor.shape), dtype=np.bool_)
    for piece in pieces:
        covered.reshape(piece.whole)[_box(piece)] = True
    return np.flatnonzero(~covered)
