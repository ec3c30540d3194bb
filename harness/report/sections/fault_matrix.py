"""Which injected faults were caught, on which strategies: what was missed comes first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from harness.faults import base as faults
from harness.record import Record
from harness.report import words
from harness.spec import Value

Outcome = Literal["missed", "inconclusive", "caught", "failed", "not tried"]
Named = Literal["right", "wrong", "none", ""]
# Of several cases of one cell the gravest speaks.
_GRAVITY: tuple[Outcome, ...] = ("missed", "inconclusive", "caught", "failed", "not tried")
# One in so many times a share lies above its bound.
_BEYOND = 0.05


class Column(Value, frozen=True, kw_only=True):
    """A strategy; ``label`` tells its size and device where the run has several of them."""

    label: str
    strategy: str
    ranks: int
    device: str


class Cell(Value, frozen=True, kw_only=True):
    """A fault on a strategy; ``seen`` tells where it showed first, ``cases`` its cases, the gravest first.

    ``line`` is the gravest case's number in the list of cases.
    ``cause`` is what the diagnosis named, ``named`` whether that is right: empty where no cause can be told or the
    fault is not known here.
    """

    outcome: Outcome
    line: int
    seen: str = ""
    cause: str = ""
    named: Named = ""
    cases: tuple[str, ...] = ()


class Row(Value, frozen=True, kw_only=True):
    """A fault, what it does, and a cell a column; None where it was not tried."""

    fault: str
    what: str
    cells: tuple[Cell | None, ...]
    missed: int
    tried: int


class Matrix(Value, frozen=True, kw_only=True):
    """All faults of a run.

    ``counts`` are cases by outcome, ``named`` diagnoses by whether they are right. ``upper`` is the upper end of the
    one-sided 95 % interval of the share that was missed or inconclusive, None where nothing was tried.
    """

    columns: tuple[Column, ...] = ()
    rows: tuple[Row, ...] = ()
    counts: dict[Outcome, int] = {}
    named: dict[Named, int] = {}
    upper: float | None = None
    sentences: tuple[str, ...] = ()


def matrix(records: Iterable[Record], lines: Mapping[int, int]) -> Matrix:
    """Return the matrix of those ``records`` that have a fault; empty where none has.

    ``lines`` holds each record's line in the list of cases by the record's id().
    """
    found = [record for record in records if record.fault is not None]
    places = sorted({(record.strategy, record.world_size, record.device) for record in found})
    by_fault: dict[str, list[Record]] = {}
    for record in found:
        by_fault.setdefault(record.fault or "", []).append(record)
    rows = sorted((_row(fault, own, places, lines) for fault, own in by_fault.items()), key=_order)
    counts = Counter(outcome(record) for record in found)
    named = Counter(named_right(record) for record in found)
    unseen = counts["missed"] + counts["inconclusive"]
    tried = len(found) - counts["not tried"]
    upper = upper_share(unseen, tried) if tried else None
    return Matrix(
        columns=_columns(places),
        rows=tuple(rows),
        counts={name: counts[name] for name in _GRAVITY if counts[name]},
        named={name: number for name, number in named.items() if name},
        upper=upper,
        sentences=tuple(_sentences(found, counts, named, upper)),
    )


def outcome(record: Record) -> Outcome:
    """Return what became of a fault."""
    if record.failed:
        return "failed"
    by_verdict: dict[str, Outcome] = {"different": "caught", "equivalent": "missed", "inconclusive": "inconclusive"}
    return by_verdict.get(record.verdict, "not tried")


def named_right(record: Record) -> Named:
    """Return whether the diagnosis names what was put in; empty where there is nothing to be right about."""
    known = faults.bugs().get(record.bug)
    if known is None or outcome(record) != "caught" or record.evidence is None:
        return ""
    named = record.evidence.diagnosis
    if named is None:
        return "none" if known.causes else ""
    return "right" if named.cause in known.causes else "wrong"


def upper_share(count: int, total: int) -> float:
    """Return the upper end of the one-sided 95 % interval of a share (exact: Clopper and Pearson 1934)."""
    if count == total:
        return 1.0
    low, high = count / total, 1.0
    for _ in range(60):  # halves the interval down to what a float can tell apart
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(count, total, middle) > _BEYOND else (low, middle)
    return high


def _at_most(count: int, total: int, share: float) -> float:
    """Return how likely at most ``count`` of ``total`` is where each happens with probability ``share``."""
    if not 0 < share < 1:
        return float(share <= 0)
    ways = (math.lgamma(total + 1) - math.lgamma(one + 1) - math.lgamma(total - one + 1) for one in range(count + 1))
    return math.fsum(
        math.exp(way + one * math.log(share) + (total - one) * math.log1p(-share)) for one, way in enumerate(ways)
    )


def sentence(found: Sequence[Record]) -> str:
    """Return what became of all injected faults, as a sentence without its stop; what must not be is named."""
    counts = Counter(map(outcome, found))
    tried = len(found) - counts["not tried"]
    if not tried:
        return f"{words.count(len(found), 'injected fault')} asked for, none tried here"
    ended = f" and {counts['failed']:,} ended with an error" if counts["failed"] else ""
    told = f"Of {words.count(tried, 'injected fault')} {counts['caught']:,} came out different{ended}, as each must"
    told += "".join(f"; {kind}: {words.listing(names, 5)}" for kind in _WRONG if (names := _named(found, kind)))
    return f"{told}; {counts['not tried']:,} more not tried here" if counts["not tried"] else told


def unseen(found: Sequence[Record]) -> list[str]:
    """Return which injected faults would pass for sound training, for the answer to begin with."""
    missed = _named(found, "missed")
    return [f"{words.count(len(missed), 'injected fault')} went unseen ({words.listing(missed)})"] if missed else []


_WRONG: tuple[Outcome, ...] = ("missed", "inconclusive")


def _named(found: Sequence[Record], kind: Outcome) -> list[str]:
    return [f"{record.fault} on {record.strategy}" for record in found if outcome(record) == kind]


def _order(row: Row) -> tuple[object, ...]:
    unclear = sum(cell is not None and cell.outcome == "inconclusive" for cell in row.cells)
    return (-row.missed, -unclear, row.fault)


def _columns(places: Sequence[tuple[str, int, str]]) -> tuple[Column, ...]:
    sizes = {ranks for _, ranks, _ in places}
    devices = {device for _, _, device in places}
    columns = []
    for strategy, ranks, device in places:
        told = [strategy]
        told += [words.count(ranks, "rank")] if len(sizes) > 1 else []
        told += [device.upper()] if len(devices) > 1 else []
        columns.append(Column(label=", ".join(told), strategy=strategy, ranks=ranks, device=device))
    return tuple(columns)


def _row(
    fault: str, records: Sequence[Record], places: Sequence[tuple[str, int, str]], lines: Mapping[int, int]
) -> Row:
    cells: dict[tuple[str, int, str], list[Record]] = {}
    for record in records:
        cells.setdefault((record.strategy, record.world_size, record.device), []).append(record)
    known = faults.bugs().get(records[0].bug)
    outcomes = [outcome(record) for record in records]
    return Row(
        fault=fault,
        what=known.summary if known else "",
        cells=tuple(_cell(cells[place], lines) if place in cells else None for place in places),
        missed=outcomes.count("missed"),
        tried=len(outcomes) - outcomes.count("not tried"),
    )


def _cell(records: Sequence[Record], lines: Mapping[int, int]) -> Cell:
    gravest, *others = sorted(records, key=lambda record: _GRAVITY.index(outcome(record)))
    judged = gravest.evidence.diagnosis if gravest.evidence else None
    seen = f"{gravest.divergence.rung}, {words.step(gravest.divergence.step)}" if gravest.divergence else ""
    return Cell(
        outcome=outcome(gravest),
        line=lines[id(gravest)],
        seen=seen or words.headline(gravest.reason),
        cause=judged.cause if judged else "",
        named=named_right(gravest),
        cases=tuple(record.case for record in (gravest, *others)),
    )


def _sentences(
    found: Sequence[Record], counts: Counter[Outcome], named: Counter[Named], upper: float | None
) -> list[str]:
    if upper is None:
        return [f"{sentence(found)}."] if found else []
    told = [f"{sentence(found)}."]
    told.append(
        f"{counts['missed'] + counts['inconclusive']:,} went unseen or unclear; of faults like these, at most "
        f"{words.percent(upper, 1)} would (95 % confidence)."
    )
    judged = sum(named.values()) - named[""]
    if judged:
        told.append(
            f"The cause was named rightly in {named['right']:,} of {judged:,}, wrongly in {named['wrong']:,}, and in "
            f"{named['none']:,} no cause was named."
        )
    return told
