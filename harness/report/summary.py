"""What a run's records come to: the question that was asked, the answer, and who falls in which group."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.record import Conclusion, Record
from harness.report import words
from harness.store import Run, RunInfo, merge, utc_now
from harness.timings import Interval

# pytest's exit status after Ctrl-C or SIGTERM.
_INTERRUPTED = 2
# Of several cases of one strategy the gravest speaks for it.
_GRAVITY: tuple[Conclusion, ...] = ("different", "inconclusive", "equivalent", "not-verified")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A run, one record a case.

    ``cases`` are the cases without an injected fault, ``faults`` those with one. ``strategies`` holds the conclusion
    of each parallel strategy; world size 1 proves nothing about parallelism and is left out there. ``fastest`` is the
    equivalent case with the highest speed-up.
    """

    run: Run
    cases: tuple[Record, ...]
    faults: tuple[Record, ...]
    strategies: dict[str, Conclusion]
    fastest: Record | None

    def named(self, conclusion: Conclusion) -> list[str]:
        """Return the parallel strategies of ``conclusion``."""
        return [name for name, found in self.strategies.items() if found == conclusion]


def summarise(run: Run) -> Summary:
    """Return the summary of ``run``."""
    records = sorted(merge(run.records), key=_order)
    cases = tuple(record for record in records if record.fault is None)
    return Summary(
        run=run,
        cases=cases,
        faults=tuple(record for record in records if record.fault is not None),
        strategies=_strategies(cases),
        fastest=max((case for case in cases if resolved_speedup(case)), key=_median_speedup, default=None),
    )


def _order(record: Record) -> tuple[object, ...]:
    return (record.workload, record.strategy, record.device, record.world_size, record.fault or "")


def _strategies(cases: Iterable[Record]) -> dict[str, Conclusion]:
    found: dict[str, Conclusion] = {}
    for case in cases:
        if case.world_size > 1:
            found[case.strategy] = min(found.get(case.strategy, case.verdict), case.verdict, key=_GRAVITY.index)
    return found


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


def question(summary: Summary) -> str:
    """Return what was asked, as a sentence."""
    strategies = sorted({case.strategy for case in summary.cases if case.world_size > 1})
    workloads = sorted({case.workload for case in summary.cases})
    if not strategies:
        return "Does the parallel run compute what the serial run computes, and how much faster is it?"
    who = strategies[0] if len(strategies) == 1 else f"each of {len(strategies)} strategies"
    return f"Does {who} compute what serial training computes on {words.listing(workloads, 4)}, and how much faster?"


def answer(summary: Summary) -> str:
    """Return the answer in one sentence."""
    equal, different = summary.named("equivalent"), summary.named("different")
    unclear, unseen = summary.named("inconclusive"), summary.named("not-verified")
    failed = [name for name in unseen if any(case.failed for case in summary.cases if case.strategy == name)]
    unseen = [name for name in unseen if name not in failed]
    if not summary.cases:
        return _without_cases(summary)
    if not summary.strategies:
        return "No parallelism was verified: every case has world size 1."
    judged = len(equal) + len(different) + len(unclear) + len(failed)
    if not judged:
        return f"Nothing was verified: {words.count(len(unseen), 'strategy', 'strategies')} could not be judged here."
    verb = "equals" if len(equal) == 1 else "equal"
    parts = [f"{len(equal)} of {words.count(judged, 'strategy', 'strategies')} {verb} serial"]
    if summary.fastest is not None:
        parts.append(_fastest(summary.fastest))
    parts += [
        f"{len(names)} {'differs' if len(names) == 1 else 'differ'}{as_known} ({words.listing(names)})"
        for names, as_known in _differing(summary, different)
        if names
    ]
    if unclear:
        parts.append(f"{len(unclear)} inconclusive ({words.listing(unclear)})")
    if failed:
        parts.append(f"{len(failed)} failed ({words.listing(failed)})")
    if unseen:
        parts.append(f"{len(unseen)} not verified here")
    return "; ".join(parts) + "."


def _without_cases(summary: Summary) -> str:
    faults, claims = len(summary.faults), len(summary.run.claims)
    told = [words.count(faults, "injected fault")] if faults else []
    told += [words.count(claims, "claim of a study", "claims of studies")] if claims else []
    if not told:
        return "Nothing was verified: no case was recorded."
    return f"No case was asked for, only {words.listing(told)}."


def _differing(summary: Summary, different: Sequence[str]) -> list[tuple[list[str], str]]:
    """Return the strategies that differ unexpectedly, and those that differ only where their library is known to."""
    unexpected = {case.strategy for case in summary.cases if case.verdict == "different" and not case.finding}
    return [
        ([name for name in different if name in unexpected], ""),
        ([name for name in different if name not in unexpected], " as known"),
    ]


def _fastest(case: Record) -> str:
    speedup = resolved_speedup(case)
    assert speedup is not None
    figure = f"{case.strategy} {words.speedup(speedup)} on {words.ranks(case)}"
    assert case.timing is not None
    if speedup.low > 1 and case.timing.claim != "inconclusive":
        return f"largest speed-up: {figure}{_caveat(case)}"
    if speedup.low > 1:
        return f"none is told apart from serial, as this machine differs from itself by as much (best: {figure})"
    return f"none is {'' if speedup.high < 1 else 'measurably '}faster than serial (best: {figure})"


def gain(case: Record) -> bool:
    """Return whether a case is told apart from 1x, upwards, and serial training on the whole machine is not as fast."""
    speedup = resolved_speedup(case)
    if speedup is None or case.timing is None:
        return False
    return speedup.low > 1 and case.timing.claim != "inconclusive" and not _caveat(case)


def _caveat(case: Record) -> str:
    """Say so where one process with all cores does as well: a speed-up over one rank's share alone is no gain."""
    assert case.timing is not None
    whole = case.timing.baseline("whole machine")
    if whole is None or whole.speedup.low > 1:
        return ""
    return (
        f", though {'slower' if whole.speedup.high < 1 else 'not measurably faster'} than serial on the whole machine"
    )


def counted(summary: Summary) -> list[tuple[Conclusion, str, int]]:
    """Return how many cases came to what, in the order of reports: (in whose colours, the word, the number)."""
    found = Counter((words.tone(case), words.verdict(case)) for case in summary.cases)
    kinds: list[tuple[Conclusion, str]] = [*words.VERDICT.items(), ("different", words.FAILED)]
    return [(tone, word, found[tone, word]) for tone, word in kinds if found[tone, word]]


def tally(summary: Summary) -> str:
    """Return how many cases came to what: ``14 cases: 9 equivalent, 1 different, 4 not verified``."""
    parts = [f"{number} {word}" for _tone, word, number in counted(summary)]
    return f"{words.count(len(summary.cases), 'case')}: {', '.join(parts)}" if parts else "0 cases"


def remarks(summary: Summary) -> list[str]:
    """Return what a reader must know before trusting the answer: losses, an interrupted run, references, faults."""
    told = list(summary.run.losses)
    if not summary.run.info.ended:
        told.append(f"{_unended(summary.run.info)}: what it had finished by then is shown")
    elif summary.run.info.exit_status == _INTERRUPTED:
        told.append("The run was interrupted: what it had finished by then is shown")
    carried = [case for case in (*summary.cases, *summary.faults) if case.judged_from]
    if carried:
        machines = sorted(set(map(words.trained_on, carried)))
        cases = words.count(len(carried), "case")
        told.append(f"{cases} judged again here from a bundle, trained on {'; '.join(machines)}")
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
        told.append(_caught(summary.faults))
    return told


def _unended(info: RunInfo) -> str:
    """Return what is known of a run without an end."""
    if info.goes_on is None:
        return "The run has not ended, or was killed"
    if not info.goes_on:
        return "The run was killed"
    # True of a page that is looked at later, too.
    return f"The run, begun {words.moment(info.started)}, still went on at {words.moment(utc_now())}"


def _caught(faults: Sequence[Record]) -> str:
    others = [record for record in faults if record.verdict != "different"]
    missed = [f"{record.fault} in {record.case}" for record in others if not record.failed]
    ended = len(others) - len(missed)
    told = f"{len(faults) - len(others)} of {words.count(len(faults), 'injected fault')} came out different"
    told += f" and {ended} ended with an error" if ended else ""
    return f"{told}, as each must; unseen: {words.listing(missed)}" if missed else f"{told}, as each must"


def not_verified(summary: Summary) -> list[tuple[str, list[str]]]:
    """Return every reason for which cases were not verified, with their ids; the most frequent reason first."""
    reasons: dict[str, list[str]] = {}
    for case in summary.cases:
        if case.verdict == "not-verified":
            reasons.setdefault(words.headline(case.reason), []).append(case.case)
    return sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))


Row = tuple[str, int, str]


def matrix(cases: Sequence[Record]) -> tuple[list[str], dict[Row, dict[str, Record]]]:
    """Return the workloads, and for each (strategy, world size, device) the record by workload.

    Cases that were merely not run here are told apart, with their reasons; a table of them would hide the others.
    """
    cases = [case for case in cases if case.verdict != "not-verified" or case.failed or case.world_size < 2]
    rows: dict[Row, dict[str, Record]] = {}
    digests = Counter(workload for workload, _ in {(case.workload, case.workload_digest) for case in cases})
    for case in sorted(cases, key=lambda case: (case.world_size < 2, case.device, case.world_size, case.strategy)):
        ambiguous = digests[case.workload] > 1  # two definitions of one name must not hide each other
        column = f"{case.workload} ({case.workload_digest or 'unknown'})" if ambiguous else case.workload
        rows.setdefault((case.strategy, case.world_size, case.device), {})[column] = case
    return sorted({column for row in rows.values() for column in row}), rows


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
