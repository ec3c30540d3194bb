"""What the page shows, prepared: which figures stand in which line, and the charts beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.record import LADDER, Record, Rung, RungSummary
from harness.report import charts, timing_views, words
from harness.report.summary import Summary, timed
from harness.report.svg import Scale
from harness.timings import Interval, Timing

_MAX_RANKS_SHOWN = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of the table of times; ``speedup`` is the parallel run's over this one."""

    label: str
    detail: str
    seconds: float
    bar: str
    speedup: Interval | None = None
    chart: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedCase:
    """A case in the table of times: the parallel run, then the serial runs it is held against."""

    record: Record
    timing: Timing
    struck: str | None
    lines: tuple[Line, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The timed cases of one workload on common scales."""

    title: str
    axis: str
    cases: tuple[TimedCase, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RungLine:
    """One rung of the ladder: its closest call with a chart, or why it was not shown."""

    rung: Rung
    summary: RungSummary | None
    chart: str
    not_shown: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A chart with its caption."""

    title: str
    caption: str
    chart: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Detail:
    """Everything about one case; ``environment`` holds only what is not as in the rest of the run."""

    record: Record
    ladder: tuple[RungLine, ...]
    figures: tuple[Figure, ...]
    remarks: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    environment: tuple[tuple[str, str], ...]


def groups(summary: Summary) -> list[Group]:
    """Return the table of times."""
    return [_group(title, cases) for title, cases in timed(summary).items()]


def _group(title: str, records: Sequence[Record]) -> Group:
    readable = [record.timing for record in records if record.timing and words.struck(record) is None]
    world_size = max(record.world_size for record in records)
    scale = charts.speedup_scale(readable, world_size)
    runs = [run for record in records if record.timing for run in _runs(record.timing)]
    longest = max((seconds for _, _, seconds, _ in runs if math.isfinite(seconds)), default=1.0)
    cases = [_timed_case(record, record.timing, scale, longest) for record in records if record.timing]
    return Group(title=title, axis=charts.speedup_axis(scale, world_size) if readable else "", cases=tuple(cases))


def _runs(timing: Timing) -> list[tuple[str, str, float, Interval | None]]:
    """Return label, detail, seconds per epoch and speed-up of the parallel run and each baseline."""
    serial = [run for run in timing.baselines if run.name != "again"]
    return [
        ("parallel", "", words.median(timing.epoch_wall_s), None),
        *((words.baseline(run), words.baseline_detail(run), words.median(run.epoch_s), run.speedup) for run in serial),
    ]


def _timed_case(record: Record, timing: Timing, scale: Scale, longest: float) -> TimedCase:
    struck = words.struck(record)
    lines = []
    for index, (label, detail, seconds, speedup) in enumerate(_runs(timing)):
        shown = speedup if struck is None else None
        kind = "serial" if index else "parallel" if struck is None else "struck"
        chart = ""
        if shown is not None:
            kind_of_dot = "main" if index == 1 else "other"
            chart = charts.whisker(shown, scale, world_size=record.world_size, band=timing.aa, kind=kind_of_dot)
        bar = charts.bar(seconds, longest, kind=kind)
        lines.append(Line(label=label, detail=detail, seconds=seconds, bar=bar, speedup=shown, chart=chart))
    return TimedCase(record=record, timing=timing, struck=struck, lines=tuple(lines))


def detail(record: Record, summary: Summary) -> Detail:
    """Return everything about one case."""
    common = summary.run.info.environment
    return Detail(
        record=record,
        ladder=_ladder(record),
        figures=tuple(_figures(record)),
        remarks=tuple(_remarks(record)),
        settings=tuple(_settings(record)),
        environment=tuple(
            words.fact(name, value) for name, value in record.environment.items() if common.get(name) != value
        ),
    )


def _settings(record: Record) -> list[tuple[str, str]]:
    facts = {"reference": record.reference, "precision of the check": record.dtype}
    facts |= {"known": record.finding} if record.finding else {}
    facts |= {"workload digest": record.workload_digest, "framework": record.framework}
    facts |= {"started": words.moment(record.started), "took": words.seconds(record.duration_s)}
    facts |= dict(words.fact(name, value) for name, value in (record.features | record.resources).items())
    facts |= timing_views.facts(record.timing) if record.timing else {}
    return [(name, value) for name, value in (facts | {"test": record.test}).items() if value]


def _ladder(record: Record) -> tuple[RungLine, ...]:
    evidence = record.evidence
    if evidence is None:
        return ()
    highest = max((rung.ratio for rung in evidence.rungs if rung.ratio < 1e300), default=1.0)
    lines = [
        RungLine(rung=rung.rung, summary=rung, chart=charts.closest_call(rung, evidence.factor, highest), not_shown="")
        for rung in evidence.rungs
    ]
    lines += [RungLine(rung=rung, summary=None, chart="", not_shown=why) for rung, why in evidence.not_shown.items()]
    return tuple(sorted(lines, key=lambda line: LADDER.index(line.rung)))


def _figures(record: Record) -> list[Figure]:
    figures = []
    evidence, timing = record.evidence, record.timing
    if evidence and evidence.curve:
        caption = "How far the parameters are from the reference at the closest call of each step, as L2 norms."
        figures.append(Figure(title="Deviation", caption=caption, chart=charts.curve(evidence.curve)))
    if evidence and evidence.losses:
        caption = "Training loss at each step of the check."
        figures.append(Figure(title="Loss", caption=caption, chart=charts.losses(evidence.losses)))
    if timing:
        found = timing_views.figures(record, timing)
        figures += [Figure(title=title, caption=told, chart=chart) for title, told, chart in found]
        warm = ", ".join(map(words.seconds, timing.warmup_s)) or "none"
        caption = f"Every measured epoch. Warm-up, not counted: {warm}."
        figures.append(Figure(title="Epochs", caption=caption, chart=charts.epochs(_epoch_rows(timing))))
    return figures


def _epoch_rows(timing: Timing) -> list[tuple[str, Sequence[float], str]]:
    per_rank = timing.epoch_s if 1 < len(timing.epoch_s) <= _MAX_RANKS_SHOWN else ()
    return [
        ("all ranks", timing.epoch_wall_s, "parallel"),
        *((f"rank {rank}", row, "rank") for rank, row in enumerate(per_rank)),
        *((words.baseline(run), run.epoch_s, "serial") for run in timing.baselines),
    ]


def _remarks(record: Record) -> list[str]:
    told = []
    if record.world_size < 2:
        told.append("World size 1: this case proves nothing about parallelism.")
    design, evidence = words.by_design(record), record.evidence
    if design is not None:
        told.append(design)
    if evidence and evidence.power:
        told.append(words.power(evidence.power))
    if evidence and evidence.no_signal:
        names = words.listing(evidence.no_signal, 12)
        told.append(f"No signal, only rounding noise in the gradient, so not counted as covered: {names}.")
    if evidence and evidence.unresolved:
        names = words.listing(evidence.unresolved, 12)
        told.append(f"Moved too little to be judged: {names}.")
    timing = record.timing
    if timing and timing.compared:
        told.append(f"Against an earlier run: {timing.compared.words}.")
    return told + ([*timing_views.sentences(timing), *timing.warnings] if timing else [])
