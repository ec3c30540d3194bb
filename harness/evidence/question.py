"""All that a verdict follows from: traces and what the oracle is told of them. Who asks again gets the same answer.

a case:   trainings, the second and later ones only to confirm an alarm that is not exact   or   seeds, for statistics
training: its legs, one where it is not interrupted
leg:      reference, reruns, ranks, mutants, and the same training once more where that was asked
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import msgspec
import numpy as np

from harness import legs, mutants
from harness.datasets.base import Labels
from harness.errors import TraceError
from harness.oracles import determinism, parity, spread, statistical
from harness.oracles.diagnosis.scene import Context
from harness.oracles.pair import Pair, observe
from harness.record import Trace, Verdict
from harness.spec import Case, Fault, Leg, Mutant, Value, Workload

SCHEMA = 1

V = TypeVar("V")


class Mutated(Value, frozen=True, kw_only=True):
    """A mutant and what its ranks observed."""

    mutant: Mutant
    ranks: tuple[Trace, ...]


class Repeat(Value, frozen=True, kw_only=True):
    """One run twice; ``who`` names it in sentences."""

    first: Trace
    again: Trace
    who: str


class Judged(Value, frozen=True, kw_only=True):
    """One leg of a training: what ``parity.judge`` and what surrounds it are given.

    ``plain`` is the plain reference where ``reference`` is a named second one; ``leg`` is None where nothing
    interrupts the training.
    """

    reference: Trace
    reruns: tuple[Trace, ...]
    ranks: tuple[Trace, ...]
    reference_name: str
    dtype: str
    context: Context
    plain: Trace | None = None
    mutants: tuple[Mutated, ...] = ()
    repeats: tuple[Repeat, ...] = ()
    leg: Leg | None = None


class Training(Value, frozen=True, kw_only=True):
    """A training in all its legs; ``words`` say of one that is to confirm an alarm what it is."""

    legs: tuple[Judged, ...]
    words: str = ""


class Seed(Value, frozen=True, kw_only=True):
    """A training in parallel and serially with one seed; ``labels`` is the .npy file of the held-out samples' labels.

    ``weighed`` says that the strategy shows its parameters, so that it can be seen whether ranks shared the work.
    """

    seed: int
    reference: Trace
    ranks: tuple[Trace, ...]
    accumulation: int
    weighed: bool
    labels: str = ""


class Question(Value, frozen=True, kw_only=True):
    """Does this case compute what its reference computes? ``verdict`` is what was answered where it was trained.

    Raises:
        TraceError: another version of Lockstep wrote it.
    """

    schema: int = SCHEMA
    case: Case
    workload: Workload
    fault: Fault | None = None
    fuzz: int | None = None
    trainings: tuple[Training, ...] = ()
    seeds: tuple[Seed, ...] = ()
    verdict: Verdict

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise TraceError(
                f"expected what a case was judged by of schema {SCHEMA} but got {self.schema}: another version of "
                "Lockstep kept it"
            )


def answer(question: Question) -> Verdict:
    """Return the verdict that follows from what a case has left.

    Raises:
        HarnessError: a table is unreadable, or the traces do not fit each other.
    """
    if question.seeds:
        verdict = statistical.judge([pair(seed, read_labels(Path(seed.labels))) for seed in question.seeds])
        return alone(verdict) if question.case.world_size == 1 else verdict
    if not question.trainings:
        raise TraceError("expected at least one training, or one seed, but got none; run the case again")
    first, *confirming = question.trainings
    verdict = _trained(first, question.case)
    if verdict.conclusion == "different":
        for training in confirming:
            other = _trained(training, question.case)
            if other.equivalent:
                return unconfirmed(verdict, other, training.words, first.legs[0].dtype)
    return verdict


def judge(asked: Judged) -> Verdict:
    """Return the verdict of one leg.

    Raises:
        TraceError: as ``parity.judge``.
    """
    verdict = parity.judge(
        reference=asked.reference,
        reruns=asked.reruns,
        parallel=asked.ranks,
        reference_name=asked.reference_name,
        dtype=asked.dtype,
        accumulation=asked.context.workload.accumulation,
        context=asked.context,
    )
    if asked.plain is not None:
        away = parity.compare(
            reference=asked.plain,
            reruns=asked.reruns,
            reruns_of=asked.reference,
            parallel=asked.ranks,
            dtype=asked.dtype,
        )
        verdict = msgspec.structs.replace(verdict, plain=away)
    if verdict.equivalent and not spread.shared(asked.ranks):
        verdict = msgspec.structs.replace(verdict, conclusion="not-verified", reason=spread.NOTHING_SHARED)
    verdict = mutants.judged(
        verdict,
        [(one.mutant, one.ranks) for one in asked.mutants],
        reference=asked.reference,
        reruns=asked.reruns,
        dtype=asked.dtype,
    )
    for repeat in asked.repeats:
        verdict = determinism.require(verdict, repeat.first, repeat.again, who=repeat.who)
    return verdict


def pair(seed: Seed, labels: Labels) -> Pair:
    """Return what one seed shows.

    Raises:
        TraceError: a file is unreadable, or a rank does not show what it should.
    """
    found = observe(
        seed=seed.seed,
        reference=seed.reference,
        parallel=seed.ranks,
        labels=labels,
        accumulation=seed.accumulation,
    )
    return dataclasses.replace(found, alone=seed.weighed and not spread.shared(seed.ranks))


def mapped(value: V, change: Callable[[Trace], Trace]) -> V:
    """Return a question, or a part of one, with every trace in it changed."""
    return cast("V", _mapped(value, change))


def tables_of(question: Question) -> tuple[str, ...]:
    """Return the files of all tables of a question, each once."""
    found: dict[str, None] = {}

    def note(trace: Trace) -> Trace:
        found.update(dict.fromkeys(file.file for file in trace.rungs.values()))
        return trace

    mapped(question, note)
    return tuple(found | dict.fromkeys(seed.labels for seed in question.seeds))


def read_labels(file: Path) -> Labels:
    """Return the labels of the held-out samples.

    Raises:
        TraceError: the file is absent, damaged, or holds something else.
    """
    try:
        labels = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TraceError(f"expected an .npy array at {file} but {error}; run the case again") from error
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise TraceError(f"expected labels in {file} but got {labels.dtype} of shape {labels.shape}; run it again")
    return np.asarray(labels, dtype=np.int64)


def unconfirmed(verdict: Verdict, other: Verdict, words: str, precision: str) -> Verdict:
    """Return what to say of an alarm in ``precision`` where ``other``, trained as ``words`` say, is equivalent."""
    reason = (
        f"{other.reason} {words}; in {precision} alone it {verdict.reason}. A flipped ReLU or a tie in max-pooling "
        f"does that, and so does a bug that needs {precision}"
    )
    return msgspec.structs.replace(other, conclusion="inconclusive", reason=reason)


def alone(verdict: Verdict) -> Verdict:
    """Return the verdict of a single rank, which proves nothing about parallelism, however equal it is."""
    if not verdict.equivalent:
        return verdict
    reason = "one rank is no parallelism, though it computes what its reference computes"
    return msgspec.structs.replace(verdict, conclusion="not-verified", reason=reason)


def _mapped(value: object, change: Callable[[Trace], Trace]) -> object:
    if isinstance(value, Trace):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_mapped(one, change) for one in value)
    if isinstance(value, Question | Training | Judged | Mutated | Repeat | Seed):
        fields = value.__struct_fields__
        return msgspec.structs.replace(value, **{name: _mapped(getattr(value, name), change) for name in fields})
    return value


def _trained(training: Training, case: Case) -> Verdict:
    verdicts = _until_one_fails(training.legs)
    stages = [
        legs.Stage(leg=asked.leg, world_size=asked.context.world_size)
        for asked in training.legs
        if asked.leg is not None
    ]
    verdict = legs.joint(verdicts, stages) if stages else verdicts[0]
    return alone(verdict) if case.world_size == 1 else verdict


def _until_one_fails(asked: Sequence[Judged]) -> list[Verdict]:
    found: list[Verdict] = []
    for leg in asked:
        if all(verdict.equivalent for verdict in found):
            found.append(judge(leg))
    if not found:
        raise TraceError("expected at least one leg of a training but got none; run the case again")
    return found
