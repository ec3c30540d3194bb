"""The question and the answer of a run, each in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from harness.record import Record
from harness.report import words
from harness.report.sections import fault_matrix
from harness.report.summary import Summary, resolved_speedup, unrun
from harness.store import RunInfo


def question(summary: Summary) -> str:
    """Return what was asked, as a sentence."""
    strategies = sorted({case.strategy for case in summary.cases if case.world_size > 1})
    workloads = sorted({case.workload for case in summary.cases})
    if not strategies:
        return "Does the parallel run compute what the serial run computes, and how much faster is it?"
    who = words.short(strategies[0]) if len(strategies) == 1 else f"each of {len(strategies)} strategies"
    where = f"{words.listing(workloads, 4)}{' (so far)' if summary.num_unrun else ''}"
    return f"Does {who} compute what serial training computes on {where}, and how much faster?"


def answer(summary: Summary) -> str:
    """Return the answer in one sentence: a bug that went unseen first, then strategies by what they came to, then time.

    It says on how many of all cases that were asked for it rests, and that a run goes on or did not come to its end.
    """
    if not summary.cases:
        return _without_cases(summary)
    if not summary.strategies:
        return _began(summary, "no parallelism was verified: every case has world size 1")
    told = fault_matrix.unseen(summary.faults)
    judged = summary.failed or any(found != "not-verified" for found in summary.strategies.values())
    told += _verdicts(summary) if judged else _nothing(summary)
    return _began(summary, "; ".join(told))


def _began(summary: Summary, told: str) -> str:
    sentence = f"{_until(summary.run.info)}{told}."
    return sentence[0].upper() + sentence[1:]


def _until(info: RunInfo) -> str:
    """Return how far the run has come that is answered for; empty where it came to its end."""
    if info.ended:
        return "before the run was interrupted, " if info.interrupted else ""
    return "before the run was killed, " if info.goes_on is False else "so far, "


def _nothing(summary: Summary) -> list[str]:
    strategies = words.count(len(summary.strategies), "strategy", "strategies")
    return [f"nothing was verified: {strategies} could not be judged here"]


def _verdicts(summary: Summary) -> list[str]:
    """Return what the strategies came to: how many are equal and on what, which are not, and the largest speed-up."""
    equal, failed, unseen = summary.named("equivalent"), summary.failed, summary.named("not-verified")
    unseen = [name for name in unseen if name not in failed]
    unclear = [name for name in summary.named("inconclusive") if name not in failed]
    judged = len(summary.strategies) - len(unseen)
    strategies = words.count(judged, "strategy", "strategies")
    verb = "equals" if len(equal) == 1 else "equal"
    told = [f"{len(equal)} of {strategies} {verb} serial{_not_plainly(summary, equal)}{_resting(summary)}"]
    told += [
        f"{len(names)} {'differs' if len(names) == 1 else 'differ'}{as_known} ({words.listing(names)})"
        for names, as_known in _differing(summary, summary.named("different"))
        if names
    ]
    told += [f"{len(failed)} failed ({words.listing(failed)})"] if failed else []
    told += [f"{len(unclear)} inconclusive ({words.listing(unclear)})"] if unclear else []
    if summary.fastest is not None:
        told.append(_fastest(summary.fastest, "none" if len(equal) == judged else "no equal one"))
    told += [f"{words.count(len(unseen), 'strategy', 'strategies')} not verified here"] if unseen else []
    return told


def _resting(summary: Summary) -> str:
    """Return on how many of all cases the answer rests, where that is not all of them."""
    if summary.num_ran == summary.num_cases:
        return ""
    return f" on the {summary.num_ran:,} of {words.count(summary.num_cases, 'case')} that ran"


def _not_plainly(summary: Summary, equal: Sequence[str]) -> str:
    """Return how many strategies are equal, in some case or in all, to something else than plain serial training."""
    of = {name: [words.manner(case) for case in summary.cases if _counts(case, name)] for name in equal}
    found = {name: one for name, one in of.items() if any(one)}
    if not found:
        return ""
    manners = {manner for one in found.values() for manner in one} - {""}
    told = ["to a named reference"] if manners - {"statistically"} else []
    told += ["statistically"] if "statistically" in manners else []
    how = f"{'' if all(all(one) for one in found.values()) else 'in part '}{' or '.join(told)}"
    return f" ({len(found)} of them {how})" if len(equal) > 1 else f" ({how})"


def _counts(case: Record, strategy: str) -> bool:
    return case.strategy == strategy and case.verdict == "equivalent" and case.world_size > 1


def _without_cases(summary: Summary) -> str:
    faults, claims = len(summary.faults), len(summary.run.claims)
    told = [words.count(faults, "injected fault")] if faults else []
    told += [words.count(claims, "claim of a study", "claims of studies")] if claims else []
    if not told:
        return f"Nothing was verified: {unrun(summary) or 'no case was recorded'}."
    return "; ".join([f"No case was asked for, only {words.listing(told)}", *fault_matrix.unseen(summary.faults)]) + "."


def _differing(summary: Summary, different: Sequence[str]) -> list[tuple[list[str], str]]:
    """Return the strategies that differ unexpectedly, and those that differ only where their library is known to."""
    unexpected = {case.strategy for case in summary.cases if case.verdict == "different" and not case.finding}
    return [
        ([name for name in different if name in unexpected], ""),
        ([name for name in different if name not in unexpected], " as known"),
    ]


def _fastest(case: Record, none: str) -> str:
    speedup = resolved_speedup(case)
    assert speedup is not None
    assert case.timing is not None
    figure = f"{words.short(case.strategy)} {words.speedup(speedup)} on {words.ranks(case)}"
    if case.timing.warnings:
        figure += f", with {words.count(len(case.timing.warnings), 'warning')} about its times"
    if speedup.low > 1 and case.timing.claim != "inconclusive":
        return f"largest speed-up: {figure}{_caveat(case)}"
    if speedup.low > 1:
        return f"{none} is told apart from serial, as this machine differs from itself by as much (best: {figure})"
    return f"{none} is {'' if speedup.high < 1 else 'measurably '}faster than serial (best: {figure})"


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
