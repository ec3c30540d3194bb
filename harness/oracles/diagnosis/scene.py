"""The place of the first divergence: what every rank holds there, and what the reference holds there, before and after.

Everything before that place is equal, so that what is wrong there can be held against what the reference would have
computed with one mistake in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness import plan
from harness.oracles.evidence import Evidence, find
from harness.oracles.rungs import Comparison
from harness.oracles.shards import Shard, sums
from harness.oracles.tables import Floats, columns_of, layout
from harness.plan import Step
from harness.record import Divergence, Rung, RungFile, Tensor
from harness.recorder import read
from harness.spec import Workload

# What a hypothesis may leave unexplained of a difference, by the precision of the check.
UNEXPLAINED = {"float64": 1e-6, "float32": 1e-3, "bf16": 5e-2, "fp16": 5e-2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What a user knows of a case without knowing what is wrong with it.

    Attributes:
        workload: what is trained.
        world_size: number of ranks.
        num_groups: into how many groups a batch is cut: one a rank, or the micro-batches of a pipeline.
        pipelined: the groups go through the same weights one after the other.
        resumed_at: the step at which the training went on from a checkpoint.
    """

    workload: Workload
    world_size: int
    num_groups: int = 1
    pipelined: bool = False
    resumed_at: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What one rank holds of a tensor, flattened; ``noise`` is what the tensor may differ by, as an L2 norm.

    ``trainable`` is as in the reference: that a rank trains what is frozen may be the mistake.
    """

    rank: int
    tensor: Tensor
    trainable: bool
    values: Floats
    wanted: Floats
    noise: float

    @property
    def name(self) -> str:
        """The tensor's canonical name."""
        return self.tensor.name

    @property
    def differs(self) -> bool:
        """Whether it is away from the reference by more than rounding."""
        away = float(np.linalg.norm(self.values - self.wanted))
        # What is no number differs, too.
        return not away <= self.noise


@dataclass(frozen=True, kw_only=True, slots=True)
class Struck:
    """The elements of a piece that differ: their flat places in it, what they are and what they should be."""

    piece: Piece
    places: NDArray[np.intp]
    values: Floats
    wanted: Floats

    @property
    def whole(self) -> bool:
        """Whether no element that could be told from zero is right."""
        return 2 * self.places.size >= int(np.count_nonzero(self.piece.wanted))


class Scene:
    """The first divergence of a verdict, with everything that a rule may ask about it."""

    def __init__(self, divergence: Divergence, evidence: Evidence, context: Context) -> None:
        self.rung: Rung = divergence.rung
        self.step, self.rank, self.tensor = divergence.step, divergence.rank, divergence.tensor
        self.evidence, self.context, self.workload = evidence, context, context.workload
        found = find(evidence.comparisons, divergence.rung)
        assert found is not None, "a divergence was found by comparing its rung"
        self.comparison: Comparison = found
        self.exact = UNEXPLAINED.get(self._dtype, 1e-3)

    @property
    def _dtype(self) -> str:
        check = self.workload.check.dtype
        return check if self.workload.precision == "full" else self.workload.precision

    # -- what is known of the training -------------------------------------------------------------------------------

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The steps of the check."""
        return tuple(itertools.islice(plan.check_steps(self.workload), self.workload.check.num_steps))

    @property
    def plan(self) -> Step:
        """The step of the divergence; before training, the first one."""
        return self.steps[max(0, self.step)]

    @property
    def resumed_here(self) -> bool:
        """Whether this is the first step after a checkpoint was loaded."""
        return self.context.resumed_at == self.step

    @cached_property
    def num_replicas(self) -> int:
        """Number of ranks that train samples of their own."""
        telling = sum("data order" in trace.rungs for trace in self.evidence.parallel)
        if len(self.evidence.parallel) > 1:
            return max(1, telling)
        return 1 if self.pipelined else self.context.world_size

    @cached_property
    def pipelined(self) -> bool:
        """Whether ranks hold layers of their own, or one process holds them as stages."""
        files = [trace.rungs["parameters"] for trace in self.evidence.parallel if "parameters" in trace.rungs]
        held = [{tensor.name for tensor in file.tensors} for file in files if file.tensors]
        return self.context.pipelined or any(one.isdisjoint(held[0]) for one in held)

    def uneven(self, step: Step) -> bool:
        """Whether a micro-batch of the step is not shared out evenly."""
        return any(len(batch) % max(2, self.context.num_groups) for batch in step.micro_batches)

    # -- what was recorded -------------------------------------------------------------------------------------------

    def reference(self, rung: Rung, step: int, name: str) -> Floats | None:
        """Return a tensor of the reference in its shape, or None where it has none at that step."""
        file = self.evidence.reference.rungs.get(rung)
        if file is None or step not in file.steps:
            return None
        for tensor, place in columns_of(file):
            if tensor.name == name:
                row = np.asarray(read(file)[file.steps.index(step), place], dtype=np.float64)
                return row if tensor.sketched else row.reshape(tensor.shape)
        return None

    def at(self, piece: Piece, rung: Rung, step: int, name: str = "") -> Floats | None:
        """Return what the reference holds of another tensor, rung or step at the place of ``piece``, flattened."""
        whole = self.reference(rung, step, name or piece.name)
        return None if whole is None else _cut(whole, piece.tensor)

    def pieces(self, rung: Rung, step: int, names: Collection[str] | None = None) -> Iterator[Piece]:
        """Yield what all ranks hold of a rung's tensors at a step: of all of them, or of those with ``names``."""
        found = find(self.evidence.comparisons, rung)
        if found is None or step not in found.steps:
            return
        floors = dict(zip((t.name for t in found.tensors), found.floor[found.steps.index(step)].tolist(), strict=True))
        trained = {tensor.name for tensor in found.tensors if tensor.trainable}
        for rank, tensor, values in self._held(rung, step, found, names):
            whole = self.reference(rung, step, tensor.name) if tensor.name in floors else None
            wanted = None if whole is None else _cut(whole, tensor)
            if wanted is not None and wanted.size == values.size:
                noise = self.evidence.factor * floors[tensor.name]
                trainable = tensor.name in trained
                yield Piece(rank=rank, tensor=tensor, trainable=trainable, values=values, wanted=wanted, noise=noise)

    def _held(
        self, rung: Rung, step: int, found: Comparison, names: Collection[str] | None
    ) -> Iterator[tuple[int, Tensor, Floats]]:
        """Yield what ranks hold; of pieces that are sketched, which tell nothing alone, the sum on its first rank."""
        files = {trace.rank: trace.rungs[rung] for trace in self.evidence.parallel if rung in trace.rungs}
        shards: dict[int, tuple[NDArray[np.generic], list[Shard]]] = {}
        places = {tensor.name: place for place, tensor in enumerate(found.tensors)}
        for rank, file in files.items():
            if rank not in found.ranks or step not in file.steps:
                continue
            row = read(file)[file.steps.index(step)]
            for tensor, columns in _columns(file):
                if names is not None and tensor.name not in names:
                    continue
                if tensor.sketched is None or tensor.whole is None:
                    yield rank, tensor, np.asarray(row[columns], dtype=np.float64)
                elif tensor.name in places:
                    own = Shard(owner=places[tensor.name], piece=tensor, columns=columns)
                    shards.setdefault(rank, (row, []))[1].append(own)
        for total in sums(rung, shards, layout(self.evidence.reference.rungs[rung])):
            values = np.sum([np.asarray(row[columns], dtype=np.float64) for _, row, columns in total.terms], axis=0)
            yield total.ranks[0], found.tensors[total.owner], values

    @cached_property
    def here(self) -> tuple[Piece, ...]:
        """What all ranks hold where they differ first."""
        return tuple(self.pieces(self.rung, self.step))

    @cached_property
    def struck(self) -> tuple[Struck, ...]:
        """Everything that differs; tensors without a signal only where nothing else does."""
        found = [struck(piece) for piece in self.here if piece.differs]
        told = [one for one in found if one.piece.name.rpartition(":")[2] not in self.evidence.no_signal]
        return tuple(told or found)

    @property
    def finite(self) -> bool:
        """Whether all that differs is numbers."""
        return all(np.isfinite(one.values).all() for one in self.struck)

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that differ."""
        return tuple(sorted({one.piece.rank for one in self.struck}))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The tensors that differ, in the reference's order."""
        struck_names = {one.piece.name for one in self.struck}
        return tuple(tensor.name for tensor in self.comparison.tensors if tensor.name in struck_names)

    @cached_property
    def holders(self) -> tuple[int, ...]:
        """The ranks that hold something of the tensors that differ."""
        return tuple(sorted({piece.rank for piece in self.here if piece.name in self.names}))

    @property
    def ranks_of_mistakes(self) -> tuple[int, ...]:
        """The ranks that train samples that are not theirs, or leave out some that are."""
        return tuple(sorted({mistake.rank for mistake in self.evidence.mistakes.get(self.step, ())}))

    @property
    def on_all_ranks(self) -> bool:
        """Whether every rank differs that holds something of what differs."""
        return self.ranks == self.holders

    # -- whether a hypothesis explains it ----------------------------------------------------------------------------

    def explained(self, hypothesis: Sequence[Floats | None], parts: Sequence[Struck] | None = None) -> bool:
        """Whether what differs (or ``parts`` of it) is the ``hypothesis`` (an array a part) within rounding."""
        parts = self.struck if parts is None else parts
        if not parts or any(guess is None for guess in hypothesis):
            return False
        pairs = list(zip(parts, hypothesis, strict=True))
        left = _norm(one.values - guess for one, guess in pairs if guess is not None)
        away = _norm(one.values - one.wanted for one in parts)
        grown = max(1.0, _norm(one.values for one in parts) / (_norm(one.wanted for one in parts) or 1.0))
        noise = grown * float(np.linalg.norm([one.piece.noise for one in parts]))
        # Rounding explains nothing where the difference is hardly larger itself.
        return left <= max(self.exact * away, min(noise, 0.01 * away))

    def taken(self, rung: Rung, step: int, prefix: str = "") -> list[Floats | None]:
        """Return the reference's values of a rung and step at the struck elements, None where it has none."""
        found = []
        for one in self.struck:
            values = self.at(one.piece, rung, step, prefix + one.piece.name.rpartition(":")[2])
            found.append(None if values is None or values.size != one.piece.values.size else values[one.places])
        return found


def struck(piece: Piece) -> Struck:
    """Return the elements of a piece that differ by more than their share of its noise."""
    with np.errstate(invalid="ignore"):
        apart = ~(np.abs(piece.values - piece.wanted) <= piece.noise / np.sqrt(max(1, piece.values.size)))
    places = np.flatnonzero(apart)
    return Struck(piece=piece, places=places, values=piece.values[places], wanted=piece.wanted[places])


def ratio(values: Sequence[Floats], others: Sequence[Floats]) -> float:
    """Return r for which r x ``others`` comes nearest to ``values``; nan where ``others`` are zero."""
    square = sum(float(np.dot(other, other)) for other in others)
    product = sum(float(np.dot(value, other)) for value, other in zip(values, others, strict=True))
    return product / square if square else float("nan")


def _norm(arrays: Iterator[Floats]) -> float:
    return float(np.sqrt(sum(float(np.dot(array, array)) for array in arrays)))


def _columns(file: RungFile) -> Iterator[tuple[Tensor, slice]]:
    return ((tensor, place) for tensor, place in columns_of(file) if tensor.num_values)


def _cut(whole: Floats, piece: Tensor) -> Floats | None:
    """Return of a whole tensor what lies at the place of ``piece``, flattened; None where it does not fit."""
    if piece.whole is None:
        return whole.reshape(-1) if piece.sketched or piece.shape == whole.shape or whole.size == 1 else None
    seen = whole.reshape(-1) if len(piece.whole) == 1 else whole
    if seen.shape != piece.whole:
        return None
    box = tuple(slice(first, first + size) for first, size in zip(piece.start, piece.shape, strict=True))
    return seen[box].reshape(-1)
