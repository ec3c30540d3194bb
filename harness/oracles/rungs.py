"""One rung of the ladder compared: how far every rank is from the reference, and what rounding explains.

For tensor i at step t (L2 norms; x reference, y parallel, x^j the reference run again, summed in another order):

    D = || y_i(t) - x_i(t) ||                                  of one rank
    F = max over s <= t and j of || x_i^j(s) - x_i(s) ||       the measured floor
    G = u * max(|| x_i(t) ||, sqrt(n_i / n) * || x(t) ||)      the guard: a measured floor is often exactly zero

with n values and ||x|| over the trained tensors that belong together. The run is equivalent where D <= K max(F, G).
Of a rank that holds a piece of tensor i, D is over that piece; F and G are the whole tensor's. Of a sketched tensor all
norms are its sketch's, and D of a piece is that of the sum of all ranks' pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.oracles.pieces import Part, open_part, require_cover
from harness.oracles.shards import sums
from harness.oracles.tables import Floats, Layout, Table, blocks, distances, layout, norms, open_table, scaled_norm
from harness.record import Rung, RungFile, Tensor

# The guard of these is each tensor's own norm: they are no vector whose parts share one scale.
OWN_SCALE: frozenset[Rung] = frozenset(
    {"data order", "buffers at next forward", "activations", "loss", "buffers", "predictions"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rerun:
    """A reference run and the same run again with its sums taken in another order: their difference is rounding."""

    first: RungFile
    again: RungFile
    who: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One rung over all steps, ranks and tensors.

    ``deviation`` is D, shape (ranks, steps, tensors); ``size`` is ||x_i||, ``noise`` F and ``floor`` max(F, G), each
    of shape (steps, tensors); ``moved`` is ||x_i(last) - x_i(first)||. Infinite where a value is not finite. ``held``,
    shape (ranks, tensors), says of which tensors a rank has something; where it has nothing, D is 0.
    """

    rung: Rung
    steps: tuple[int, ...]
    ranks: tuple[int, ...]
    tensors: tuple[Tensor, ...]
    deviation: Floats
    size: Floats
    noise: Floats
    floor: Floats
    moved: Floats
    held: NDArray[np.bool_]

    @property
    def judgeable(self) -> NDArray[np.bool_]:
        """Where the reference and its reruns are finite, shape (steps, tensors)."""
        return np.isfinite(self.size) & np.isfinite(self.noise)

    def ratios(self) -> Floats:
        """Return D / max(F, G), shape (ranks, steps, tensors); infinite over a floor of zero, 0 where unjudgeable."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratios: Floats = self.deviation / self.floor
        ratios[self.deviation == 0] = 0.0
        ratios[:, ~self.judgeable] = 0.0
        return ratios


def compare_rung(
    rung: Rung, reference: RungFile, reruns: Sequence[Rerun], parallel: Mapping[int, RungFile], unit: float
) -> Comparison:
    """Compare ``rung`` of the ranks in ``parallel``, if any, with ``reference``.

    Raises:
        TraceError: a file is unreadable or does not fit the reference, or no rank holds some of its values.
    """
    columns = layout(reference)
    serial = open_table(rung, reference, like=reference, who="the reference")
    pairs = [_open_rerun(rung, rerun, reference, serial) for rerun in reruns]
    ranks = [_open_rank(rung, rank, file, reference) for rank, file in parallel.items()]
    if ranks:
        require_cover(rung, reference, parallel.values())
    totals = tuple(sums(rung, {i: (part.values, part.shards) for i, part in _parts(ranks)}, columns))
    shape = (len(reference.steps), len(columns.tensors))
    size, noise, deviation = np.zeros(shape), np.zeros(shape), np.zeros((len(ranks), *shape))
    for first, last in blocks(shape[0], columns.width):
        rows = serial.rows(first, last)
        size[first:last] = norms(rows, columns)
        for base, again in pairs:
            start = rows if base is serial else base.rows(first, last)
            noise[first:last] = np.maximum(noise[first:last], distances(again.rows(first, last), start, columns))
        for i, table in enumerate(ranks):
            deviation[i, first:last] = table.apart(first, last, rows, columns)
        for total in totals:
            seen = deviation[total.ranks, first:last, total.owner]
            deviation[total.ranks, first:last, total.owner] = np.maximum(seen, total.apart(first, last, rows, columns))
    noise = np.maximum.accumulate(noise, axis=0)
    return Comparison(
        rung=rung,
        steps=reference.steps,
        ranks=tuple(parallel),
        tensors=columns.tensors,
        deviation=deviation,
        size=size,
        noise=noise,
        floor=np.maximum(noise, guard(rung, columns, size, unit)),
        moved=distances(serial.rows(shape[0] - 1, shape[0]), serial.rows(0, 1), columns)[0],
        held=np.array([table.held(columns) for table in ranks], dtype=np.bool_).reshape(len(ranks), shape[1]),
    )


def _parts(ranks: Sequence[Table | Part]) -> list[tuple[int, Part]]:
    return [(i, table) for i, table in enumerate(ranks) if isinstance(table, Part)]


def _open_rank(rung: Rung, rank: int, file: RungFile, reference: RungFile) -> Table | Part:
    return (open_part if file.part else open_table)(rung, file, like=reference, who=f"rank {rank}")


def _open_rerun(rung: Rung, rerun: Rerun, reference: RungFile, serial: Table) -> tuple[Table, Table]:
    if rerun.first is reference:
        base = serial
    else:
        base = open_table(rung, rerun.first, like=reference, who=f"the run behind {rerun.who}")
    return base, open_table(rung, rerun.again, like=reference, who=rerun.who)


def guard(rung: Rung, columns: Layout, size: Floats, unit: float) -> Floats:
    """Return G, shape (steps, tensors): one rounding of the tensor itself or of its share of the vector it is part of.

    Tensors that are not trained, and those of OWN_SCALE, have only their own norm. An optimizer's tensors form one
    vector a kind (``exp_avg:conv1.weight`` and ``exp_avg:conv1.bias``): first and second moments differ by decades.
    """
    scale = size.copy()
    if rung not in OWN_SCALE:
        for members in _vectors(rung, columns.tensors):
            whole = np.array([scaled_norm(row) for row in size[:, members]])
            share = np.sqrt(columns.counts[members] / columns.counts[members].sum())
            scale[:, members] = np.maximum(scale[:, members], whole[:, None] * share)
    return unit * scale


def _vectors(rung: Rung, tensors: Sequence[Tensor]) -> list[list[int]]:
    vectors: dict[str, list[int]] = {}
    for i, tensor in enumerate(tensors):
        kind, colon, _ = tensor.name.partition(":")
        if tensor.trainable and (colon or rung != "optimizer state"):
            vectors.setdefault(kind if rung == "optimizer state" else "", []).append(i)
    return list(vectors.values())
