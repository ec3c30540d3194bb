"""Two or more runs held against the first: where they ran, what changed, and speed where like meets like."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec

from harness import history
from harness.measure import gate
from harness.record import Record
from harness.report import words
from harness.report.compared import change_words
from harness.report.compared.comparison import ABSENT, KINDS, Change, Comparison, Refused, Relation, Speed, became, tone
from harness.report.compared.sides import LETTERS, Selected, are_programs, chosen, describe, differences, paired
from harness.report.summary import resolved_speedup
from harness.store import Run, merge
from harness.timings import Compared, Timing

Cases = Mapping[str, Record]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Manner:
    """How times are compared; see ``compare``."""

    floor: float
    allow: Collection[str]
    programs: bool
    most: int | None
    whole: bool


def compare(
    *given: Run | Selected,
    others: Iterable[Run] = (),
    floor: float = history.FLOOR,
    allow: Collection[str] = (),
    most: int | None = None,
    label: str = "",
    older: Mapping[str, tuple[Record, str]] | None = None,
    whole: bool = True,
) -> Comparison:
    """Return what changed from the first side to each other; only a case that is alike in both is timed against.

    ``others`` are runs that tell how runs differ, ``floor`` the relative effect that counts, and ``allow`` the kinds of
    difference that do not matter (``harness.history.KINDS``). With ``most`` only so many cases are judged, those that
    moved most: what moved by less than the floor can be neither slower nor faster. ``older`` holds cases that the first
    side lacks, each with when it was; without ``whole`` the last side goes on, and what it lacks is no change.

    Raises:
        UsageError: fewer than two sides, or only some of them name a strategy.
    """
    sides = [side if isinstance(side, Selected) else chosen(side) for side in given]
    manner = _Manner(floor=floor, allow=allow, programs=are_programs(sides), most=most, whole=whole)
    tables = [paired(side, programs=manner.programs) for side in sides]
    beside = [] if manner.programs else [_Timed(run) for run in others]
    found = [_against(tables[0], tables[i], LETTERS[i], beside, manner) for i in range(1, len(tables))]
    changes = _changes(tables, older or {}, manner)
    kinds = [change.kind for change in changes]
    comparison = Comparison(
        label=label,
        sides=tuple(
            describe(side, letter, len(table)) for side, letter, table in zip(sides, LETTERS, tables, strict=False)
        ),
        programs=manner.programs,
        floor=floor,
        environment=differences(sides),
        verdicts=changes,
        speeds=tuple(speed for one in found for speed in one.speeds),
        refused=tuple(refused for one in found for refused in one.refused),
        counts={kind: kinds.count(kind) for kind in KINDS if kind in kinds},
        num_refused=sum(len(one.refused) for one in found),
        num_shared=len(set.intersection(*(set(table) for table in tables))),
        num_steady=sum(one.num_steady for one in found),
        num_unjudged=sum(one.num_unjudged for one in found),
        same=not manner.programs and len({side.run.directory.resolve() for side in sides}) == 1,
        whole=whole,
    )
    return msgspec.structs.replace(comparison, headline=change_words.headline(comparison))


def _changes(tables: Sequence[Cases], older: Mapping[str, tuple[Record, str]], manner: _Manner) -> tuple[Change, ...]:
    found = []
    for name in sorted(set().union(*tables)):
        cases = [table.get(name) for table in tables]
        if not manner.whole and cases[-1] is None:
            continue
        verdicts, earlier = [_verdict(case) for case in cases], ""
        before = verdicts[0]
        if cases[0] is None and name in older:
            record, when = older[name]
            before = words.verdict(record)
            verdicts[0] = earlier = f"{before} {when}"
        kinds = {became(before, now, programs=manner.programs) for now in verdicts[1:]}
        kind = next((kind for kind in KINDS if kind in kinds), None)
        if kind is None:
            continue
        reasons = [words.headline(case.reason) for case in cases[1:] if case is not None]
        found.append(
            Change(
                case=name,
                kind=kind,
                tone=tone(kind, verdicts[-1]),
                verdicts=tuple(verdicts),
                reason=reasons[-1] if reasons else "",
                earlier=earlier,
            )
        )
    return tuple(sorted(found, key=lambda change: KINDS.index(change.kind)))


def _verdict(case: Record | None) -> str:
    return ABSENT if case is None else words.verdict(case)


class _Timed:
    """The timed cases of a run that tells how runs differ, looked up when one is asked for."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @cached_property
    def _records(self) -> dict[str, list[Record]]:
        found: dict[str, list[Record]] = {}
        for record in self._run.records:
            if record.fault is None:
                found.setdefault(record.case, []).append(record)
        return found

    def cases(self, name: str) -> list[Record]:
        """Return the record of a timed case; nothing where it was not timed."""
        return [record for record in merge(self._records.get(name, ())) if record.timing is not None][-1:]


@dataclass(kw_only=True, slots=True)
class _Found:
    """What came of one side's times against those of A, while it is gathered."""

    speeds: list[Speed]
    refused: list[Refused]
    num_steady: int = 0
    num_unjudged: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pair:
    """A case on side A and on the side ``letter``."""

    name: str
    letter: str
    before: Record
    now: Record
    manner: _Manner

    @property
    def as_one(self) -> Record:
        """The case on side A under the strategy of the other where the two are meant to be different ones."""
        if not self.manner.programs:
            return self.before
        return msgspec.structs.replace(self.before, strategy=self.now.strategy)


def _against(before: Cases, now: Cases, letter: str, others: Sequence[_Timed], manner: _Manner) -> _Found:
    found = _Found(speeds=[], refused=[])
    alike: dict[str, _Pair] = {}
    for name in sorted(before.keys() | now.keys()):
        a, b = before.get(name), now.get(name)
        if not any(case is not None and case.timing is not None for case in (a, b)):
            continue
        if b is None and not manner.whole:
            continue
        if a is None or b is None:
            why = f"only in {'A' if b is None else letter}"
            found.refused.append(Refused(case=name, letter=letter, reason=why, lost=a is not None and history.fit(a)))
            continue
        pair = _Pair(name=name, letter=letter, before=a, now=b, manner=manner)
        refusal = history.refusal(pair.as_one, b, allow=manner.allow)
        if refusal is None:
            alike[name] = pair
            continue
        found.refused.append(Refused(case=name, letter=letter, reason=refusal + _outcome(b), lost=history.fit(a)))
        if manner.most is None or len(found.speeds) < manner.most:
            found.speeds += _side_by_side(pair)
    found.speeds += [
        _speed(pair, [record for run in others for record in run.cases(pair.name)])
        for pair in _judged(list(alike.values()), found, manner)
    ]
    found.speeds.sort(key=lambda speed: speed.case)
    return found


def _outcome(case: Record) -> str:
    """Return in brackets what became of a case that has no times; nothing of one that was judged."""
    if case.timing is not None or case.verdict == "equivalent":
        return ""
    return f" ({words.verdict(case)}: {words.headline(case.reason)})"


def _judged(alike: Sequence[_Pair], found: _Found, manner: _Manner) -> Sequence[_Pair]:
    """Return which cases are judged, all or those that moved most, and count the others."""
    if manner.most is None:
        return alike
    moves = {pair.name: _moved(pair) for pair in alike}
    moved = [pair for pair in alike if moves[pair.name] > math.log1p(manner.floor)]
    found.num_steady, found.num_unjudged = len(alike) - len(moved), max(0, len(moved) - manner.most)
    return sorted(moved, key=lambda pair: -moves[pair.name])[: manner.most]


def _speed(pair: _Pair, others: Sequence[Record]) -> Speed:
    before, now, manner = pair.before, pair.now, pair.manner
    if manner.programs:
        # What serial training takes in either framework is no common measure.
        a, b = (_with(case, baselines=()) for case in (pair.as_one, now))
        found = history.compare(a, b, floor=manner.floor, allow=manner.allow)
        return _told(pair, "programs", found, change_words.programs(before, now, found))
    alike = [record for record in others if history.refusal(record, now, allow=manner.allow) is None]
    earlier = history.beside(before, alike)
    found = history.compare(before, now, earlier=earlier, floor=manner.floor, allow=manner.allow)
    return _told(pair, "code", found, found.words)


def _side_by_side(pair: _Pair) -> list[Speed]:
    """Return the times of a case on unlike machines or versions beside each other, where they are of the same work."""
    # A yardstick would take out what the machines differ in.
    a, b = (
        _with(msgspec.structs.replace(case, environment={}), baselines=(), yardstick_s=(), share=None)
        for case in (pair.as_one, pair.now)
    )
    if history.refusal(a, b) is not None:
        return []
    found = history.compare(a, b, floor=pair.manner.floor)
    why = change_words.unlikeness(pair.before, pair.now, pair.manner.allow)
    told = _told(pair, "unlike", msgspec.structs.replace(found, outcome=None), change_words.unlike(found, why))
    return [msgspec.structs.replace(told, why=why)]


def _told(pair: _Pair, relation: Relation, found: Compared, told: str) -> Speed:
    assert found.ratio is not None
    assert found.before_s is not None
    assert found.now_s is not None
    return Speed(
        case=pair.name,
        letter=pair.letter,
        relation=relation,
        outcome=found.outcome,
        words=told,
        floor=found.floor,
        before_s=found.before_s,
        now_s=found.now_s,
        ratio=found.ratio,
        to_serial=found.to_serial,
        before_speedup=resolved_speedup(pair.before),
        now_speedup=resolved_speedup(pair.now),
    )


def _with(record: Record, **changes: object) -> Record:
    """Return a record with other fields of its timing."""
    if record.timing is None:
        return record
    return msgspec.structs.replace(record, timing=msgspec.structs.replace(record.timing, **changes))


def _moved(pair: _Pair) -> float:
    """Return by how much at most a case's time moved, as a logarithm."""
    assert pair.before.timing is not None
    assert pair.now.timing is not None
    a, b = _centres(pair.before.timing), _centres(pair.now.timing)
    if len(a) != len(b):  # where one side has no yardstick, seconds are compared
        a, b = a[:1], b[:1]
    moves = [abs(after - first) for first, after in zip(a, b, strict=True)]
    return max(moves[1:] or moves)


def _centres(timing: Timing) -> tuple[float, ...]:
    """Return the logarithm of the time per epoch: in seconds and, with a yardstick, over it in two ways."""
    steps = [math.log(time) for time in timing.epoch_wall_s]
    units = [math.log(time) for time in timing.yardstick_s if gate.is_time(time)]
    bare = statistics.median(steps)
    if len(units) != len(steps):
        return (bare,)
    rounds = statistics.median(step - unit for step, unit in zip(steps, units, strict=True))
    return bare, rounds, bare - statistics.median(units)
