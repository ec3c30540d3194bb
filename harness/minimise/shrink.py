"""Greedy delta debugging: take out whatever can go while the same difference stays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from harness import jobs
from harness.errors import MissingRequirementError, RankError, SpecError, TraceError, UsageError
from harness.minimise.reductions import REDUCTIONS, Candidate
from harness.record import Divergence, Rung, Verdict
from harness.spec import Case, Fault, Workload
from harness.strategies import base as strategies

Judge = Callable[[Case, Workload, Fault | None], Verdict]
Tell = Callable[[str], None]
# No registered workload has this name, so that a command line can describe it.
NAME = "smallest"
LIMIT_S = 300.0


class Difference(NamedTuple):
    """What must stay while a case is made smaller: against which reference, and where in the ladder, it differs first.

    A statistical verdict has no rung.
    """

    reference: str
    rung: Rung | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Minimised:
    """The smallest case found that still differs.

    Attributes:
        removed: what was taken out, in words and in order.
        num_tried: how many cases were judged.
        finished: nothing more can go; False where the time was up.
    """

    case: Case
    workload: Workload
    verdict: Verdict
    removed: tuple[str, ...]
    num_tried: int
    finished: bool


def difference(verdict: Verdict) -> Difference | None:
    """Return in what a case differs: from its reference or, where it equals a named second one, from plain serial."""
    where = divergence(verdict)
    if verdict.conclusion == "different":
        return Difference(verdict.reference, where.rung if where else None)
    return Difference("plain", verdict.plain.rung) if verdict.plain else None


def divergence(verdict: Verdict) -> Divergence | None:
    """Return the first place of that difference."""
    return verdict.divergence if verdict.conclusion == "different" else verdict.plain


def shrink(
    case: Case,
    workload: Workload,
    fault: Fault | None,
    judge: Judge,
    *,
    limit_s: float = LIMIT_S,
    tell: Tell = lambda _line: None,
) -> Minimised:
    """Return the smallest case that still differs, and from the same rung of the ladder on.

    Nothing more can be taken out of it by one of the reductions, unless the time was up. Cases that cannot run, or
    end in an error, are left out. ``tell`` gets a line whenever something could go.

    Raises:
        SpecError: the case does not differ, so there is nothing to make smaller; or it cannot run.
        RankError: a rank of the case itself raised, died or hung.
    """
    return _Search(fault, judge, limit_s, tell).run(case, workload)


class _Search:
    """What has been tried, and how long it may go on."""

    def __init__(self, fault: Fault | None, judge: Judge, limit_s: float, tell: Tell) -> None:
        self._fault, self._judge, self._tell = fault, judge, tell
        self._ends_s = time.monotonic() + limit_s
        self._tried: dict[str, Verdict | None] = {}

    def run(self, case: Case, workload: Workload) -> Minimised:
        verdict = self._judge(case, workload, self._fault)
        wanted = difference(verdict)
        if wanted is None:
            raise SpecError(f"expected a case that differs but got {case.id}, which is {verdict}; nothing to minimise")
        found = Candidate(
            removed="",
            case=msgspec.structs.replace(case, workload=NAME),
            workload=msgspec.structs.replace(workload, name=NAME),
        )
        removed: list[str] = []
        before = -1
        while before < len(removed) and not self._over:
            before = len(removed)
            for smaller, told in self._pass(found, verdict, wanted):
                found, verdict = smaller, told
                removed.append(smaller.removed)
                self._tell(smaller.removed)
        return Minimised(
            case=found.case,
            workload=found.workload,
            verdict=verdict,
            removed=tuple(removed),
            num_tried=1 + len(self._tried),
            finished=not self._over,
        )

    def _pass(self, start: Candidate, verdict: Verdict, wanted: Difference) -> Iterator[tuple[Candidate, Verdict]]:
        """Yield ever smaller cases: each reduction as often as it helps."""
        now = start
        for reduce in REDUCTIONS:
            helped = True
            while helped:
                helped = False
                for candidate in reduce(now.case, now.workload, divergence(verdict)):
                    told = self._told(candidate)
                    if told is not None and difference(told) == wanted:
                        now, verdict, helped = candidate, told, True
                        yield now, verdict
                        break

    def _told(self, candidate: Candidate) -> Verdict | None:
        """Return the verdict on a case, or None where it cannot run; what was asked before is known."""
        if self._over:
            return None
        case, workload = candidate.case, candidate.workload
        key = f"{case.id} {workload.digest}"
        if key not in self._tried:
            try:
                jobs.validate(case, workload, strategies.get(case.strategy))
            except UsageError:
                return None
            try:
                self._tried[key] = self._judge(case, workload, self._fault)
            except (UsageError, MissingRequirementError, TraceError, RankError):
                self._tried[key] = None
        return self._tried[key]

    @property
    def _over(self) -> bool:
        return time.monotonic() > self._ends_s
