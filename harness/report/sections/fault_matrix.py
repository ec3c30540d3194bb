"""Which injected faults were caught, on which strategies: what was missed comes first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from harness.faults import base as faults
from harness.record import Record
from harness.report import words
from harness.spec import Value

Outcome = Literal["missed", "inconclusive", "caught", "failed", "not tried"]
Named = Literal["right", "wrong", "none", ""]
# Of several cases of one cell the gravest speaks.
_GRAVITY: tuple[Outcome, ...] = ("missed", "inconclusive", "caught", "failed", "not tried")
OUTCOME: dict[Outcome, str] = {
    "missed": "called equivalent although it is wrong",
    "inconclusive": "judged, but the evidence does not carry a verdict",
    "caught": "came out different",
    "failed": "ended with an error, a dead rank or a hang, which nobody overlooks",
    "not tried": "not run with this strategy here",
}
# The normal quantile of a one-sided 95 % bound.
_Z = 1.6449


class Column(Value, frozen=True, kw_only=True):
    """A strategy; ``label`` tells its size and device where the run has several of them."""

    label: str
    strategy: str
    ranks: int
    device: str


class Cell(Value, frozen=True, kw_only=True):
    """A fault on a strategy; ``seen`` tells where it showed first, ``cases`` its cases, the gravest first.

    ``cause`` is what the diagnosis named, ``named`` whether that is right: empty where no cause can be told or the
    fault is not known here.
    """

    outcome: Outcome
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


def matrix(records: Iterable[Record]) -> Matrix:
    """Return the matrix of those ``records`` that have a fault; empty where none has."""
    found = [record for record in records if record.fault is not None]
    places = sorted({(record.strategy, record.world_size, record.device) for record in found})
    by_fault: dict[str, list[Record]] = {}
    for record in found:
        by_fault.setdefault(record.fault or "", []).append(record)
    rows = sorted((_row(fault, own, places) for fault, own in by_fault.items()), key=_order)
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
    known = faults.bugs().get(_plain_name(record))
    if known is None or outcome(record) != "caught" or record.evidence is None:
        return ""
    named = record.evidence.diagnosis
    if named is None:
        return "none" if known.causes else ""
    return "right" if named.cause in known.causes else "wrong"


def upper_share(count: int, total: int) -> float:
    """Return the upper end of the one-sided 95 % interval of a share (Wilson 1927)."""
    share, z = count / total, _Z
    middle = share + z**2 / (2 * total)
    reach = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return min(1.0, (middle + reach) / (1 + z**2 / total))


def _plain_name(record: Record) -> str:
    """Return the fault without the part of the training that it was put in."""
    return (record.fault or "").partition("[")[0]


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


def _row(fault: str, records: Sequence[Record], places: Sequence[tuple[str, int, str]]) -> Row:
    cells: dict[tuple[str, int, str], list[Record]] = {}
    for record in records:
        cells.setdefault((record.strategy, record.world_size, record.device), []).append(record)
    known = faults.bugs().get(fault.partition("[")[0])
    outcomes = [outcome(record) for record in records]
    return Row(
        fault=fault,
        what=known.summary if known else "",
        cells=tuple(_cell(cells[place]) if place in cells else None for place in places),
        missed=outcomes.count("missed"),
        tried=len(outcomes) - outcomes.count("not tried"),
    )


def _cell(records: Sequence[Record]) -> Cell:
    gravest, *others = sorted(records, key=lambda record: _GRAVITY.index(outcome(record)))
    judged = gravest.evidence.diagnosis if gravest.evidence else None
    seen = f"{gravest.divergence.rung}, {words.step(gravest.divergence.step)}" if gravest.divergence else ""
    return Cell(
        outcome=outcome(gravest),
        seen=seen or words.headline(gravest.reason),
        cause=judged.cause if judged else "",
        named=named_right(gravest),
        cases=tuple(record.case for record in (gravest, *others)),
    )


def _sentences(
    found: Sequence[Record], counts: Counter[Outcome], named: Counter[Named], upper: float | None
) -> list[str]:
    if upper is None:
        return [f"{words.count(len(found), 'fault')} asked for, none tried here."] if found else []
    tried = len(found) - counts["not tried"]
    ended = f", {counts['failed']:,} ended with an error" if counts["failed"] else ""
    missed = [f"{record.fault} on {record.strategy}" for record in found if outcome(record) == "missed"]
    unclear = [f"{record.fault} on {record.strategy}" for record in found if outcome(record) == "inconclusive"]
    told = [f"Of {words.count(tried, 'injected fault')} {counts['caught']:,} came out different{ended}, as each must."]
    told += [f"Missed: {words.listing(missed, 5)}."] if missed else []
    told += [f"Inconclusive: {words.listing(unclear, 5)}."] if unclear else []
    told.append(
        f"{counts['missed'] + counts['inconclusive']:,} went unseen; of faults like these, at most "
        f"{words.percent(upper, 1)} would (95 % confidence)."
    )
    judged = sum(named.values()) - named[""]
    if judged:
        told.append(
            f"The cause was named rightly in {named['right']:,} of {judged:,}, wrongly in {named['wrong']:,}, and in "
            f"{named['none']:,} no cause was named."
        )
    return told
