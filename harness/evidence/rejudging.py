"""Judging a bundle's cases again with this version's oracle, and holding what comes out against their records.

No pass is taken on trust: a record that cannot be judged again is not verified here, whatever it says; where the two do
not agree the graver one stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from harness.errors import HarnessError, StoreError, TraceError
from harness.evidence.keeping import TABLES
from harness.evidence.manifest import Manifest, decode_question, placed
from harness.evidence.question import Question, answer
from harness.record import GRAVITY, Conclusion, Record, Verdict

Outcome = Literal["agrees", "disagrees", "not judged again"]
# Of several records of a case the first of these speaks.
_OUTCOMES: tuple[Outcome, ...] = ("disagrees", "agrees", "not judged again")
# What an oracle may end with on traces that fit their description and no training.
_ODD = (HarnessError, ArithmeticError, AssertionError, LookupError, StopIteration, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejudged:
    """One record of a bundle: what it says, and what comes out here or, without that, why nothing does.

    ``case`` names it in sentences; records of one case have one ``key``.
    """

    case: str
    key: tuple[str, str, str | None]
    recorded: Conclusion
    found: Verdict | None
    why: str = ""

    @property
    def outcome(self) -> Outcome:
        """Whether both say the same."""
        if self.found is None:
            return "not judged again"
        return "agrees" if self.found.conclusion == self.recorded and not self.why else "disagrees"

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.case}: {self.outcome}: {self.why}"
        told = f"{self.case}: {self.outcome}: {self.found}"
        return told if self.outcome == "agrees" else f"{told}; its record says {self.recorded}{self.why}"


def questions(folder: Path, manifest: Manifest) -> dict[str, Question]:
    """Return what the cases of an unpacked bundle were judged by, their tables looked at, by the name of the file.

    Raises:
        StoreError: one is damaged, or its tables are not what it says.
    """
    found = {}
    for name in sorted({case.question for case in manifest.cases} - {""}):
        question = decode_question((folder / name).read_bytes(), name)
        try:
            found[name] = placed(question, folder / TABLES)
        except TraceError as error:
            raise StoreError(f"expected in {name} what {question.case.id} was judged by but {error}") from error
    return found


def rejudge(question: Question) -> Verdict | str:
    """Return the verdict over what a case was judged by, or why there is none."""
    try:
        return answer(question)
    except _ODD as error:
        return f"the oracle ends with {type(error).__name__}: {error}"


def held(record: Record, question: Question | None, verdict: Verdict | str | None, reason: str) -> Rejudged:
    """Return how a record stands to what came out of its traces; ``reason`` says why it has none."""
    made = partial(Rejudged, case=_named(record), key=key_of(record), recorded=record.verdict)
    if question is None or verdict is None:
        return made(found=None, why=reason)
    if isinstance(verdict, str):
        return made(found=None, why=verdict)
    own = record.case, record.workload_digest, record.bug or None
    theirs = question.case.id, question.workload.digest, question.fault.name if question.fault else None
    why = "" if own == theirs else f", and its traces are those of {question.case.id}, with another workload or fault"
    return made(found=verdict, why=why)


def unrecorded(question: Question, verdict: Verdict | str, traces: str) -> Rejudged:
    """Return how a case without a record, such as a bug injected in a test, stands to what was said of it."""
    name = f"{question.case.id} with {question.fault.name}" if question.fault else question.case.id
    found, why = (verdict, "") if isinstance(verdict, Verdict) else (None, verdict)
    key = question.case.id, traces, question.fault.name if question.fault else None
    return Rejudged(case=name, key=key, recorded=question.verdict.conclusion, found=found, why=why)


def restated(record: Record, finding: Rejudged, sha256: str) -> Record:
    """Return the record as it counts here: with the verdict that came out here, from the bundle with this checksum."""
    # Of the bundle's machine: nothing of it lies in the folder of this run.
    logs = tuple(msgspec.structs.replace(log, path="") for log in record.logs)
    own = msgspec.structs.replace(record, traces="", judged_from="", logs=logs)
    if finding.found is None:
        if record.verdict != "equivalent":
            return own
        reason = f"{finding.why} (where it was trained: {record.verdict}: {record.reason})"
        return msgspec.structs.replace(own, verdict="not-verified", reason=reason, evidence=None, margin=None)
    found = finding.found
    if finding.outcome == "disagrees":
        worst = max(found.conclusion, record.verdict, key=GRAVITY.index)
        worst = max(worst, "inconclusive", key=GRAVITY.index)
        said = f"judged again from its traces it is {found}; its record says {record.verdict}{finding.why}"
        found = msgspec.structs.replace(found, conclusion=worst, reason=said)
    was = record.evidence.reason if record.evidence else record.reason
    return msgspec.structs.replace(
        own,
        verdict=found.conclusion,
        reason=found.reason + record.reason.removeprefix(was),
        evidence=found,
        divergence=found.divergence,
        margin=found.margin,
        reference=found.reference,
        judged_from=sha256,
    )


def tally(findings: Iterable[Rejudged]) -> dict[Outcome, int]:
    """Return how many cases came out how: a case disagrees where one of its records does, and agrees where one does."""
    outcomes: dict[tuple[str, str, str | None], set[Outcome]] = {}
    for finding in findings:
        outcomes.setdefault(finding.key, set()).add(finding.outcome)
    told = Counter(next(one for one in _OUTCOMES if one in found) for found in outcomes.values())
    return {"agrees": told["agrees"], "disagrees": told["disagrees"], "not judged again": told["not judged again"]}


def status(findings: Iterable[Rejudged]) -> int:
    """Return the exit status: 0 where all that was judged again agrees, 1 where something does not, or none was."""
    outcomes = tally(findings)
    return 1 if outcomes["disagrees"] or not outcomes["agrees"] else 0


def key_of(record: Record) -> tuple[str, str, str | None]:
    """Return by what a run tells its cases apart, as in ``store.merge``."""
    return record.case, record.workload_digest, record.fault


def _named(record: Record) -> str:
    return f"{record.case} with {record.fault}" if record.fault else record.case
