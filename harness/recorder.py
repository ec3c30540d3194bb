"""Recording what a rank observes into one array file a rung, and reading it back."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import sketches
from harness.errors import TraceError
from harness.record import Rung, RungFile, Tensor, Trace
from harness.spec import Job

# What a check that records the ends only records at every step all the same.
AT_EVERY_STEP: frozenset[Rung] = frozenset({"data order", "loss", "predictions"})
# What holds a model's tensors, of which sketches are kept where a check says so.
OF_TENSORS: frozenset[Rung] = frozenset(
    {
        "gradients before clipping",
        "gradients after clipping",
        "optimizer state",
        "parameters",
        "buffers",
        "buffers at next forward",
    }
)
# How many of the last steps such a check records wholly, and how many after the first.
NUM_AT_END = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Where a value lies in its tensor: it is the box that begins at ``start`` of a tensor of shape ``whole``.

    A range of a tensor that is cut without regard to its dimensions, as flat buffers are, begins at one number in the
    flattened tensor: ``Piece(whole=(3, 4), start=(5,))``.
    """

    whole: tuple[int, ...]
    start: tuple[int, ...]

    @property
    def place(self) -> tuple[int, ...]:
        """The shape of that in which ``start`` is a place: the whole tensor's, or the flattened one's."""
        flat = len(self.start) == 1 != len(self.whole)
        return (math.prod(self.whole),) if flat else tuple(map(int, self.whole))


# Values of a step, or sketches of them, by name, shape and place: of pieces that begin at one place, one may be empty.
Row = dict[tuple[str, tuple[int, ...], Piece | None], NDArray[np.generic]]
Rows = dict[int, Row]


class Recorder:
    """Collects the rungs of one process; ``tap`` is free when the job is not about equality.

    One process may observe several ranks (replicas on threads or logical devices): pass ``rank``.
    """

    def __init__(self, job: Job, prefix: str = "trace") -> None:
        self.on = job.purpose == "parity"
        self._job = job
        self._prefix = prefix
        self._taps: defaultdict[int, defaultdict[Rung, Rows]] = defaultdict(lambda: defaultdict(dict))
        self._frozen: set[str] = set()
        self._parts: set[Rung] = set()
        self.not_shown: dict[Rung, str] = {}

    def tap(
        self,
        rung: Rung,
        step: int,
        name: str,
        value: Any,
        *,
        rank: int | None = None,
        trainable: bool = True,
        piece: Piece | None = None,
        multiply: sketches.Multiply = np.matmul,
    ) -> None:
        """Record ``value`` (copied, any shape) of canonical tensor ``name`` at ``step`` as seen by ``rank``.

        With ``piece`` the value is that piece of the tensor, and may be empty. A rank may hold several of one tensor.
        Of a tensor that is ``sketched`` the value may be a library's own array, which its ``multiply`` takes.
        """
        if not self.on or not self._wants(rung, step):
            return
        rows = self._taps[self._job.rank if rank is None else rank][rung]
        shape = tuple(np.shape(value))
        if self.sketched(rung, shape, piece):
            start = piece.start if piece else ()
            array = sketches.sketch(value, shape=piece.whole if piece else shape, start=start, multiply=multiply)
        else:
            array = np.array(value, copy=True)
        rows.setdefault(step, {})[name, shape, piece] = array
        if piece is not None:
            self._parts.add(rung)
        if not trainable:
            self._frozen.add(name)

    def sketched(self, rung: Rung, shape: tuple[int, ...], piece: Piece | None) -> bool:
        """Return whether a value of ``shape``, or the tensor that it is a ``piece`` of, leaves its sketch only."""
        limit = self._job.workload.check.sketch_above
        return limit is not None and rung in OF_TENSORS and math.prod(piece.whole if piece else shape) > limit

    def _wants(self, rung: Rung, step: int) -> bool:
        check = self._job.workload.check
        return (
            not check.ends_only or rung in AT_EVERY_STEP or step <= NUM_AT_END or step >= check.num_steps - NUM_AT_END
        )

    def holds_part(self, *rungs: Rung) -> None:
        """Declare that other ranks hold the tensors of ``rungs`` that this process does not tap, if only all of them.

        A pipeline's stage has its own layers only, ZeRO's optimizer its own share of the state. A tap with a ``piece``
        says as much.
        """
        self._parts.update(rungs)

    def data_order(
        self, step: int, groups: Sequence[NDArray[np.int64]], *, length: int, rank: int | None = None
    ) -> None:
        """Record which samples ``rank`` trained at ``step``, in order over ``groups``, padded with -1 to ``length``."""
        row = np.full(length, -1, dtype=np.int64)
        seen = np.concatenate(groups)[:length] if groups else row[:0]
        row[: len(seen)] = seen
        self.tap("data order", step, "samples", row, rank=rank)

    def traces(self) -> tuple[Trace, ...]:
        """Write everything to the job's directory and return a trace for every rank observed."""
        ranks = sorted(self._taps) or [self._job.rank]
        return tuple(
            Trace(
                rank=rank,
                rungs={rung: self._write(rank, rung, rows) for rung, rows in self._observed(rank).items()},
                not_shown=self.not_shown,
            )
            for rank in ranks
        )

    def _observed(self, rank: int) -> dict[Rung, Rows]:
        """Return what was tapped, with an empty table for each rung that others hold all of."""
        others: dict[Rung, Rows] = {rung: {} for rung in self._parts} if self.on else {}
        return others | self._taps[rank]

    def _write(self, rank: int, rung: Rung, rows: Rows) -> RungFile:
        steps = sorted(rows)
        expected = self._tensors(rung, rows[steps[0]]) if steps else ()
        for step in steps:
            got = self._tensors(rung, rows[step])
            if got != expected:
                raise TraceError(
                    f"rung {rung!r}: expected the tensors {_told(expected)} at step {step} but got {_told(got)}; tap "
                    "the same ones at every step"
                )
        path = Path(self._job.directory) / f"{self._prefix}-rank{rank}-{rung.replace(' ', '_')}.npy"
        save(path, [list(rows[step].values()) for step in steps])
        return RungFile(file=str(path), steps=tuple(steps), tensors=expected, part=rung in self._parts)

    def _tensors(self, rung: Rung, row: Row) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(
                name=name,
                shape=shape,
                trainable=name not in self._frozen,
                whole=piece.place if piece else None,
                start=tuple(map(int, piece.start)) if piece else (),
                sketched=sketches.matrix_of(piece.whole if piece else shape)
                if self.sketched(rung, shape, piece)
                else None,
            )
            for name, shape, piece in row
        )


def _told(tensors: Sequence[Tensor]) -> str:
    pieces = ((tensor, f" from {tensor.start} of {tensor.whole}" if tensor.whole else "") for tensor in tensors)
    return ", ".join(f"{tensor.name} {tensor.shape}{piece}" for tensor, piece in pieces) or "none"


def save(path: Path, rows: Sequence[Sequence[NDArray[np.generic]]]) -> None:
    """Write rows, each the flattened values of its arrays, as one .npy table.

    The table is never whole in memory, which would double what a trace takes, and it is moved to its place when it is
    whole on disk, so that no reader sees half of it.
    """
    kind = np.result_type(*({value.dtype for row in rows for value in row} or {np.dtype(np.float64)}))
    header = {
        "descr": np.lib.format.dtype_to_descr(kind),
        "fortran_order": False,
        "shape": (len(rows), sum(value.size for value in rows[0]) if rows else 0),
    }
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for row in rows:
            for value in row:
                file.write(np.ascontiguousarray(value, kind).data)
    beside.replace(path)


def read(rung: RungFile) -> NDArray[np.generic]:
    """Return the table of a rung, shape (steps, values), memory-mapped.

    Raises:
        TraceError: the file is absent, truncated or of another shape than promised.
    """
    width = sum(tensor.num_values for tensor in rung.tensors)
    try:
        table: NDArray[np.generic] = np.load(rung.file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise TraceError(f"expected an .npy array at {rung.file} but {error}; run the case again") from error
    if table.dtype.kind not in "biuf":
        raise TraceError(f"expected numbers in {rung.file} but got values of type {table.dtype}; run the case again")
    expected = (len(rung.steps) if rung.num_rows is None else rung.num_rows, width)
    if table.shape != expected:
        raise TraceError(f"expected shape {expected} in {rung.file} but got {table.shape}; run the case again")
    return table[: len(rung.steps)]
