"""The times of a run as data for the page: the cases of a workload, each with the serial runs it is held against."""

from __future__ import annotations

from collections.abc import Sequence

from harness.record import Record
from harness.report import words
from harness.report.sections.figures import row
from harness.report.summary import Summary, timed
from harness.spec import Value
from harness.timings import Baseline, Timing


class Over(Value, frozen=True, kw_only=True):
    """A case against one serial run: the speed-up as low, median and high, and in words."""

    name: str
    seconds: str
    detail: str
    speedup: list[float | None]
    figure: str


class Timed(Value, frozen=True, kw_only=True):
    """A timed case; ``struck`` says why it has no speed-up. ``line`` is its number in the list of cases."""

    line: int
    strategy: str
    device: str
    ranks: int
    tone: str
    seconds: str
    samples: str
    efficiency: str
    struck: str
    notes: tuple[str, ...]
    over: tuple[Over, ...]
    aa: list[float | None] | None


class Group(Value, frozen=True, kw_only=True):
    """The timed cases of one workload and one kind of scaling."""

    title: str
    cases: tuple[Timed, ...]


def groups(summary: Summary, lines: dict[int, int]) -> tuple[Group, ...]:
    """Return the times of a run; ``lines`` holds each record's line in the list of cases by the record's id()."""
    return tuple(
        Group(title=title, cases=tuple(_timed(record, record.timing, lines[id(record)]) for record in records
                                       if record.timing))
        for title, records in timed(summary).items()
    )  # fmt: skip


def baselines(found: Sequence[Group]) -> list[tuple[str, str]]:
    """Return the serial runs that any case is held against, as (name, words), in the order of the report."""
    seen = {over.name for group in found for case in group.cases for over in case.over}
    return [(name, told) for name, told in words.BASELINE.items() if name in seen]


def _timed(record: Record, timing: Timing, line: int) -> Timed:
    struck = words.struck(record)
    return Timed(
        line=line,
        strategy=record.strategy,
        device=record.device,
        ranks=record.world_size,
        tone=words.tone(record),
        seconds=words.seconds(words.epoch_s(timing)),
        samples="" if struck else f"{words.number(timing.samples_per_s)}",
        efficiency="" if struck or not timing.efficiency else words.efficiency(timing.efficiency),
        struck=struck or "",
        notes=tuple(_notes(timing)),
        over=tuple(_over(run, struck is None) for run in timing.baselines if run.name != "again"),
        aa=row((timing.aa.low, timing.aa.high)) if timing.aa else None,
    )


def _notes(timing: Timing) -> list[str]:
    told = []
    if timing.efficiency and timing.efficiency_over != "one share":
        told.append("efficiency over the per-rank batch")
    if timing.oversubscribed:
        told.append("cores shared: no efficiency")
    if timing.claim == "inconclusive":
        told.append("not told apart from none")
    if timing.warnings:
        told.append(words.count(len(timing.warnings), "warning"))
    return told


def _over(run: Baseline, shown: bool) -> Over:
    return Over(
        name=run.name,
        seconds=words.seconds(words.median(run.epoch_s)),
        detail=words.baseline_detail(run),
        speedup=row((run.speedup.low, run.speedup.median, run.speedup.high)) if shown else [],
        figure=words.speedup(run.speedup) if shown else "",
    )
