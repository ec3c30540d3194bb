"""A report on one screen, at most 24 lines of 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from harness.check.asking import Finding, Report
from harness.oracles.reasons import number
from harness.report.console import clean, table

LINES, COLUMNS = 24, 100
# Whose evidence is shown where several trainings are not equivalent.
WORST = ("different", "failed", "inconclusive", "not-verified")
_EVIDENCE_LINES = 5
_ENDS = {
    0: "equivalent: it computes what serial training computes",
    1: "different: it does not compute what serial training computes",
    2: "failed: nothing could be compared",
    3: "not verified: no training showed a difference, and not all could be judged",
}


def screen(report: Report) -> list[str]:
    """Return the lines of a report: a table, the evidence of the first training that is not equivalent, the answer."""
    question, strategy = report.question, report.strategy
    head = f"{strategy.name} ({strategy.where}) on {question.world_size} ranks against {strategy.reference_of}"
    shown = _table(report.findings)
    worst = next((one for answer in WORST for one in report.findings if one.answer == answer), None)
    told = [*(_evidence(worst, report) if worst else []), *_power(report.findings)]
    left = LINES - len(shown) - len(told) - 4
    shown = shown if left >= 0 else [*shown[: left - 1], f"... and {1 - left} more"]
    return [*_wrapped(head, 1), *shown, "", *told, _ends(report)]


def _table(findings: Sequence[Finding]) -> list[str]:
    rows = [["training", "answer", "margin", "where it differs first"]]
    for finding in findings:
        verdict = finding.verdict
        margin = "" if verdict is None or verdict.margin is None else number(verdict.margin)
        rows.append([finding.training[:24], finding.answer, margin.replace("infinitely", "infinite"), _place(finding)])
    return [line if len(line) <= COLUMNS else f"{line[: COLUMNS - 4]} ..." for line in table(rows)]


def _place(finding: Finding) -> str:
    seen = finding.verdict.divergence if finding.verdict else None
    if seen is None:
        return "" if finding.answer == "equivalent" else finding.reason[:60]
    when = "before training" if seen.step < 0 else f"step {seen.step}"
    return f"{when}, rank {seen.rank}, {seen.rung}, {seen.tensor}"


def _evidence(finding: Finding, report: Report) -> list[str]:
    """Return why a training is not equivalent, what mends it, and how to ask again."""
    lines = _wrapped(f"{finding.training}: {finding.reason}", _EVIDENCE_LINES)
    seen = finding.verdict.divergence if finding.verdict else None
    if seen is not None and seen.rung == "parameters" and seen.step < 0 and "starts-equal" in report.strategy.options:
        lines += _wrapped("If the ranks are handed equal weights elsewhere, add --starts-equal.", 1)
    cause = finding.verdict.diagnosis if finding.verdict else None
    if cause is not None:
        told = (f"cause ({cause.confidence}): {cause.words}", f"make sure: {cause.check}", f"mend: {cause.mend}")
        lines += [line for text in told for line in _wrapped(text, 2)]
    return [*lines, *_wrapped(f"again: {report.question.again(finding.training)}", 2), ""]


def _power(findings: Sequence[Finding]) -> list[str]:
    """Return in a line what the checks of equivalent trainings were shown to catch, if mutants were run."""
    powers = [one.verdict.power for one in findings if one.verdict is not None and one.verdict.power is not None]
    if not powers:
        return []
    survived = sorted({name for power in powers for name in power.survived})
    left = f"; not told: {', '.join(survived)}" if survived else ""
    told = f"{sum(len(power.killed) for power in powers)} of {sum(power.applied for power in powers)}"
    return _wrapped(f"Of bugs put in on purpose these checks told {told}{left}.", 2)


def _ends(report: Report) -> str:
    answers = [finding.answer for finding in report.findings]
    counts = ", ".join(f"{answers.count(answer)} {answer}" for answer in dict.fromkeys(answers))
    return clean(f"{_ENDS[report.status]} ({counts})")


def _wrapped(text: str, limit: int) -> list[str]:
    return textwrap.wrap(clean(text), COLUMNS, max_lines=limit, placeholder=" ...", break_on_hyphens=False)
