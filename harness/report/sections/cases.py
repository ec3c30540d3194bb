"""What the page's script shows of each case: a line of the list, and everything about it once it is opened."""

from __future__ import annotations

import re

from harness.record import LADDER, Log, Record
from harness.report import words
from harness.report.sections import timing_views
from harness.report.sections.figures import Figure, figures, rounded
from harness.report.summary import resolved_speedup
from harness.spec import Value

# What stands where the middle of a long text was.
_LEFT_OUT = re.compile(r"\[\.\.\. \d+ bytes \.\.\.\]")


class Line(Value, frozen=True, kw_only=True):
    """A case in the list: what it is filtered and sorted by, and what is read at a glance.

    ``manner`` says in which manner an equivalent case is so where that is not plainly: ``statistically``, ``to NAME``.
    """

    case: str
    strategy: str
    workload: str
    framework: str
    device: str
    ranks: int
    tone: str
    verdict: str
    told: str
    margin: float | None = None
    speedup: float | None = None
    figure: str = ""
    manner: str = ""
    fault: str | None = None


class Rung(Value, frozen=True, kw_only=True):
    """One rung of the ladder: its closest call and where it was, or why it was not shown."""

    rung: str
    ratio: float | None = None
    figure: str = ""
    where: str = ""
    not_shown: str = ""


class Output(Value, frozen=True, kw_only=True):
    """What a rank printed, and its stack; ``told`` says how much of it there is and where."""

    who: str
    told: str
    text: str = ""
    stack: str = ""


class Detail(Value, frozen=True, kw_only=True):
    """Everything about one case; ``environment`` holds only what is not as in the rest of the run."""

    lead: str
    evidence: str = ""
    found: str = ""
    diagnosis: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    struck: tuple[str, str] | None = None
    allowed: float | None = None
    ladder: tuple[Rung, ...] = ()
    figures: tuple[Figure, ...] = ()
    accuracy: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    command: str = ""
    logs: tuple[Output, ...] = ()


def line(record: Record) -> Line:
    """Return a case's line in the list."""
    speedup = resolved_speedup(record)
    return Line(
        case=record.case,
        strategy=record.strategy,
        workload=record.workload,
        framework=record.framework,
        device=record.device,
        ranks=record.world_size,
        tone=words.tone(record),
        verdict=words.verdict(record),
        told=words.headline(record.reason),
        margin=rounded(record.margin),
        speedup=rounded(speedup.median) if speedup else None,
        figure=words.speedup(speedup) if speedup else "",
        manner=words.manner(record) if record.verdict == "equivalent" else "",
        fault=record.fault,
    )


def detail(record: Record, common: dict[str, str | float | int], *, brief: bool = False) -> Detail:
    """Return everything about one case; ``common`` is the environment of the run.

    In ``brief`` an equivalent case does without the figures of single tensors, which take the most room.
    """
    evidence, struck = record.evidence, words.struck(record)
    return Detail(
        lead=words.headline(record.reason),
        evidence=words.evidence(record.reason),
        found=words.divergence(record.divergence) if record.divergence else "",
        diagnosis=words.diagnosis(record),
        remarks=tuple(_remarks(record)),
        struck=(words.seconds(words.epoch_s(record.timing)), struck) if record.timing and struck else None,
        allowed=evidence.factor if evidence else None,
        ladder=_ladder(record),
        figures=tuple(figures(record, brief=brief and record.verdict == "equivalent")),
        accuracy=words.accuracy(record.accuracy) if record.accuracy else "",
        settings=tuple(_settings(record)),
        environment=tuple(
            words.fact(name, value) for name, value in record.environment.items() if common.get(name) != value
        ),
        command=record.command,
        logs=tuple(_output(log) for log in record.logs),
    )


def _output(log: Log) -> Output:
    told = words.bytes_size(log.num_bytes) if log.num_bytes else "printed nothing"
    # Blank lines around a text are left out of it, and are nothing that is missed.
    cut = log.num_bytes > len(log.text.encode("utf-8", "replace")) and _LEFT_OUT.search(log.text) is not None
    where = f"; all of it in {log.path}" if log.path else ""
    return Output(who=log.who, told=f"{told}{', cut' if cut else ''}{where}", text=log.text, stack=log.stack)


def _settings(record: Record) -> list[tuple[str, str]]:
    facts = {"reference": record.reference, "precision of the check": record.dtype}
    facts |= {"known": record.finding} if record.finding else {}
    facts |= {"workload digest": record.workload_digest, "framework": record.framework}
    facts |= {
        "started": words.moment(record.started),
        "took": words.seconds(record.duration_s) if record.duration_s else "",
    }
    facts |= dict(words.fact(name, value) for name, value in (record.features | record.resources).items())
    facts |= timing_views.facts(record.timing) if record.timing else {}
    return [(name, value) for name, value in (facts | {"test": record.test}).items() if value]


def _ladder(record: Record) -> tuple[Rung, ...]:
    evidence = record.evidence
    if evidence is None:
        return ()
    rungs = {
        one.rung: Rung(
            rung=one.rung,
            ratio=rounded(one.ratio),
            figure=words.number(one.ratio, 2),
            where=f"{words.place(one)} ({words.count(one.num_compared, 'comparison')})",
        )
        for one in evidence.rungs
    }
    rungs |= {rung: Rung(rung=rung, not_shown=why) for rung, why in evidence.not_shown.items()}
    return tuple(rungs[rung] for rung in LADDER if rung in rungs)


def _remarks(record: Record) -> list[str]:
    told = []
    if record.world_size < 2:
        told.append("World size 1: this case proves nothing about parallelism.")
    if (judged := words.judged_from(record)) is not None:
        told.append(judged)
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
