"""What a run's records come to: who falls in which group, and what must be known before any of it is trusted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from harness.record import GRAVITY, Conclusion, Record
from harness.report import words
from harness.report.sections import fault_matrix
from harness.store import Run, RunInfo, merge, utc_now
from harness.timings import Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A run, one record a case.

    ``cases`` are the cases without an injected fault, ``faults`` those with one. ``strategies`` holds the conclusion
    of each parallel strategy; world size 1 proves nothing about parallelism and is left out there. ``fastest`` is the
    case with the highest speed-up of a strategy that is equivalent wherever it was judged. ``num_unrun`` cases were to
    be run and left no record.
    """

    run: Run
    cases: tuple[Record, ...]
    faults: tuple[Record, ...]
    strategies: dict[str, Conclusion]
    fastest: Record | None
    num_unrun: int = 0

    @property
    def num_cases(self) -> int:
        """How many cases were asked for."""
        return len(self.cases) + self.num_unrun

    @property
    def num_ran(self) -> int:
        """How many cases were judged, or failed to be."""
        return sum(case.verdict != "not-verified" or case.failed for case in self.cases)

    @property
    def failed(self) -> list[str]:
        """The parallel strategies of which a case failed, and that are not known to differ."""
        names = {case.strategy for case in self.cases if case.failed}
        return [name for name, found in self.strategies.items() if name in names and found != "different"]

    def named(self, conclusion: Conclusion) -> list[str]:
        """Return the parallel strategies of ``conclusion``."""
        return [name for name, found in self.strategies.items() if found == conclusion]


def summarise(run: Run) -> Summary:
    """Return the summary of ``run``."""
    records = sorted(merge(run.records), key=_order)
    cases = tuple(record for record in records if record.fault is None)
    strategies = _strategies(cases)
    timed = [case for case in cases if resolved_speedup(case) and strategies[case.strategy] == "equivalent"]
    own = {record.case for record in records if not record.judged_from}
    return Summary(
        run=run,
        cases=cases,
        faults=tuple(record for record in records if record.fault is not None),
        strategies=strategies,
        fastest=max(timed, key=_median_speedup, default=None),
        num_unrun=max(0, (run.info.num_planned or 0) - len(own)),
    )


def _order(record: Record) -> tuple[object, ...]:
    return (record.workload, record.strategy, record.device, record.world_size, record.fault or "")


def _strategies(cases: Iterable[Record]) -> dict[str, Conclusion]:
    """Return what may be said of each strategy: its gravest case speaks, and one that failed is not passed over."""
    found: dict[str, Conclusion] = {}
    for case in cases:
        if case.world_size > 1:
            found[case.strategy] = max(found.get(case.strategy, case.verdict), case.verdict, key=GRAVITY.index)
    failed = {case.strategy for case in cases if case.failed}
    return {
        name: "inconclusive" if name in failed and conclusion == "equivalent" else conclusion
        for name, conclusion in found.items()
    }


def resolved_speedup(record: Record) -> Interval | None:
    """Return the speed-up that may be shown: of an equivalent, parallel case whose figures are not struck."""
    if record.timing is None or words.struck(record) is not None or record.world_size < 2:
        return None
    speedup = record.timing.speedup
    return speedup if speedup is not None and math.isfinite(speedup.median) else None


def _median_speedup(record: Record) -> float:
    speedup = resolved_speedup(record)
    assert speedup is not None
    return speedup.median


def counted(summary: Summary) -> list[tuple[Conclusion, str, int]]:
    """Return how many cases came to what, in the order of reports: (in whose colours, the word, the number)."""
    found = Counter((words.tone(case), words.verdict(case)) for case in summary.cases)
    return [(tone, word, found[tone, word]) for tone, word in words.TALLIED if found[tone, word]]


def tally(summary: Summary) -> str:
    """Return how many cases came to what: ``14 cases: 9 equivalent, 1 different, 4 not verified``."""
    parts = [f"{number:,} {word}" for _tone, word, number in counted(summary)]
    so_far = f"{len(summary.cases):,} of " if summary.num_unrun else ""
    cases = f"{so_far}{words.count(summary.num_cases, 'case')}"
    return f"{cases}: {', '.join(parts)}" if parts else "0 cases"


def remarks(summary: Summary) -> list[str]:
    """Return what a reader must know before trusting the answer: losses, an interrupted run, references, faults."""
    told = list(summary.run.losses)
    if not summary.run.info.ended:
        told.append(f"{_unended(summary.run.info)}: what it had finished by then is shown")
    elif summary.run.info.interrupted:
        told.append("The run was interrupted: what it had finished by then is shown")
    carried = [case for case in (*summary.cases, *summary.faults) if case.judged_from]
    if carried:
        machines = sorted(set(map(words.trained_on, carried)))
        cases = words.count(len(carried), "case")
        again = f"{cases} judged again here from a bundle, trained on {'; '.join(machines)}"
        times = any(case.timing is not None for case in carried)
        told.append(f"{again}; times were measured there and are copied, not measured again" if times else again)
    second = [
        case
        for case in summary.cases
        if case.verdict == "equivalent" and case.world_size > 1 and words.manner(case).startswith("to ")
    ]
    if second:
        names = sorted({case.reference for case in second})
        told.append(
            f"{words.count(len(second), 'case')} judged against a named second reference ({words.listing(names)}), "
            "which does in one process what the strategy does by design; the difference from plain is shown with each"
        )
    statistical = [
        case for case in summary.cases if case.verdict == "equivalent" and words.manner(case) == "statistically"
    ]
    if statistical:
        told.append(
            f"{words.count(len(statistical), 'case')} equivalent statistically, over paired seeds: their libraries are "
            "not meant to compute exactly what serial training computes"
        )
    known = [case for case in summary.cases if case.finding and case.verdict == "different"]
    if known:
        names = list(dict.fromkeys(case.strategy for case in known))
        told.append(
            f"{words.count(len(known), 'case')} differ{'s' * (len(known) == 1)} as the library is known to "
            f"({words.listing(names)}); each says in what"
        )
    if summary.faults:
        told.append(fault_matrix.sentence(summary.faults))
    return told


def _unended(info: RunInfo) -> str:
    """Return what is known of a run without an end."""
    if info.goes_on is None:
        return "The run has not ended, or was killed"
    if not info.goes_on:
        return "The run was killed"
    # True of a page that is looked at later, too.
    return f"The run, begun {words.moment(info.started)}, still went on at {words.moment(utc_now())}"


def failures(summary: Summary) -> list[tuple[str, list[str]]]:
    """Return every reason for which cases failed, with their ids; the most frequent reason first."""
    return _by_reason(case for case in summary.cases if case.failed)


def not_verified(summary: Summary) -> list[tuple[str, list[str]]]:
    """Return every reason for which cases were not verified, with their ids; the most frequent reason first.

    Those that failed are told apart (``failures``), and those that left no record have no id (``unrun``).
    """
    return _by_reason(case for case in summary.cases if case.verdict == "not-verified" and not case.failed)


def _by_reason(cases: Iterable[Record]) -> list[tuple[str, list[str]]]:
    reasons: dict[str, list[str]] = {}
    for case in cases:
        reasons.setdefault(words.headline(case.reason), []).append(case.case)
    return sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))


def unrun(summary: Summary) -> str:
    """Return why cases left no record: ``73 cases have not run yet``; empty where all that were asked for have one."""
    if not summary.num_unrun:
        return ""
    cases, info = words.count(summary.num_unrun, "case"), summary.run.info
    if info.ended:
        return f"{cases} did not run: the run {'was interrupted' if info.interrupted else 'stopped before'}"
    if info.goes_on is False:
        return f"{cases} did not run: the run was killed"
    return f"{cases} {'has' if summary.num_unrun == 1 else 'have'} not run yet"


def timed(summary: Summary) -> dict[str, list[Record]]:
    """Return the timed cases by workload and kind of scaling; strong and weak scaling are never mixed."""
    groups: dict[str, list[Record]] = {}
    for case in summary.cases:
        if case.timing is not None:
            groups.setdefault(_title(case), []).append(case)
    return groups


def _title(case: Record) -> str:
    """Return the name of a case's table."""
    weak = case.timing is not None and case.timing.scaling == "weak"
    return f"{case.workload}, weak scaling" if weak else case.workload


COLUMNS = ("strategy", "ranks", "verdict", "closest call", "time per epoch", "speed-up", "efficiency")


def row(record: Record) -> tuple[str, ...]:
    """Return a case as the cells of COLUMNS; terminal and Markdown show the same."""
    timing, no_speedup = record.timing, words.struck(record)
    return (
        record.strategy,
        f"{record.world_size} {record.device}",
        words.verdict(record),
        words.closest_call(record),
        words.seconds(words.epoch_s(timing)) if timing else words.NOTHING,
        no_speedup or (words.claimed(timing) if timing else words.NOTHING),
        words.efficiency(timing.efficiency) if timing and not no_speedup else words.NOTHING,
    )


def by_workload(cases: Iterable[Record]) -> dict[str, list[Record]]:
    """Return the cases that were judged, or failed to be, by workload; what was not verified is listed apart."""
    groups: dict[str, list[Record]] = {}
    for case in cases:
        if case.verdict != "not-verified" or case.failed or case.timing is not None:
            groups.setdefault(_title(case), []).append(case)
    return groups
