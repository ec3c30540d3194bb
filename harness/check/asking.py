"""One function, every training of the contract: what was asked, and what came of it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness import scratch, support, workloads
from harness.contract.adopt import Framework, adopt
from harness.contract.trainings import CONTRACT
from harness.errors import HarnessError, MissingRequirementError, UnknownNameError
from harness.launchers.local import Pool, RankFailure
from harness.record import Verdict
from harness.runner import Runner
from harness.spec import Case, Workload
from harness.strategies import base as strategies
from harness.strategies.base import Strategy
from harness.training import Settings, preload

Answer = Literal["equivalent", "different", "inconclusive", "not-verified", "failed", "not asked"]
ALL_EQUIVALENT, DIFFERENT, BAD_INPUT, NOT_VERIFIED = 0, 1, 2, 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked of a function.

    Attributes:
        where: ``module:function``, ``file.py:function``, or the name of a strategy that is known.
        trainings: names of the contract's trainings or of workloads, or JSON objects; none for the whole contract.
        starts_equal: ranks are handed equal weights, which nothing in a step or wrapper broadcasts.
    """

    where: str
    world_size: int = 2
    trainings: tuple[str, ...] = ()
    framework: Framework = "torch"
    starts_equal: bool = False

    def again(self, training: str = "") -> str:
        """Return the command that asks the same, of one training if one is named."""
        chosen = (training,) if training else self.trainings
        words = ["harness", "check", self.where, f"--world-size={self.world_size}"]
        words += [f"--workload={name}" for name in chosen]
        words += [f"--framework={self.framework}"] if self.framework != "torch" else []
        words += ["--starts-equal"] if self.starts_equal else []
        return shlex.join(words)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What came of one training: a verdict, or why there is none."""

    training: str
    answer: Answer
    verdict: Verdict | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """All that came of a question."""

    question: Question
    strategy: Strategy
    findings: tuple[Finding, ...]

    @property
    def status(self) -> int:
        """The exit status: a difference outweighs bad input, and that what could not be judged."""
        answers = {finding.answer for finding in self.findings} - {"not asked"}
        if "different" in answers:
            return DIFFERENT
        if "failed" in answers:
            return BAD_INPUT
        return ALL_EQUIVALENT if answers == {"equivalent"} else NOT_VERIFIED

    def as_json(self) -> dict[str, Any]:
        """Return the report for machines."""
        return {
            "function": self.question.where,
            "strategy": self.strategy.name,
            "world_size": self.question.world_size,
            "status": self.status,
            "command": self.question.again(),
            "trainings": [
                {
                    "workload": finding.training,
                    "answer": finding.answer,
                    "reason": finding.reason,
                    "verdict": msgspec.to_builtins(finding.verdict),
                }
                for finding in self.findings
            ],
        }


@contextmanager
def runner(timeout_s: float) -> Iterator[Runner]:
    """A runner whose ranks and files are gone afterwards; a rank without progress for ``timeout_s`` has hung."""
    folder = scratch.create()
    pool = Pool(preload)
    try:
        yield Runner(Settings(scratch=folder, timeout_s=timeout_s), pool)
    finally:
        pool.close()
        scratch.remove(folder)


def ask(question: Question, runner: Runner) -> Report:
    """Run every training of the question and return what came of each.

    Raises:
        HarnessError: the function, the framework or a training is not what it should be, or this machine lacks it.
    """
    # As Python does for scripts: a module beside which the command is given is found.
    sys.path[:0] = [] if str(Path.cwd()) in sys.path else [str(Path.cwd())]
    strategies.discover()
    strategy = _strategy(question)
    trainings = [training(name) for name in question.trainings] or list(CONTRACT)
    missing = strategy.missing()
    if missing:
        raise MissingRequirementError(f"{strategy.name} {missing}")
    findings: list[Finding] = []
    for workload in trainings:
        # What ended the ranks once would end them again, after a time-out each.
        over = any(finding.answer == "failed" for finding in findings)
        findings.append(
            _unasked(workload, "a training before it failed") if over else _find(runner, strategy, workload, question)
        )
    return Report(question=question, strategy=strategy, findings=tuple(findings))


def training(name: str) -> Workload:
    """Return a training by its name in the contract, the name of a workload, or a JSON object.

    Raises:
        UnknownNameError: there is none of this name.
        SpecError: a JSON object that describes none.
    """
    own = {workload.name: workload for workload in CONTRACT}
    if name in own:
        return own[name]
    if name.lstrip().startswith("{"):
        return workloads.described(name)
    if name not in workloads.workloads():
        raise UnknownNameError("training", name, [*own, *workloads.workloads()])
    return workloads.get(name)


def _strategy(question: Question) -> Strategy:
    if ":" not in question.where:
        return strategies.get(question.where)
    adopted = adopt(question.where, framework=question.framework)
    return strategies.get(f"{adopted.name}+starts-equal") if question.starts_equal else adopted


def _unasked(workload: Workload, reason: str) -> Finding:
    return Finding(training=workload.name, answer="not asked", reason=reason)


def _find(runner: Runner, strategy: Strategy, workload: Workload, question: Question) -> Finding:
    refused = support.refusal(workload, strategy, question.world_size)
    if refused:
        return _unasked(workload, refused)
    case = Case(workload=workload.name, strategy=strategy.name, world_size=question.world_size)
    try:
        verdict = runner.verdict(case, workload)
    except RankFailure as failure:
        return Finding(training=workload.name, answer="failed", reason=_told(failure))
    except HarnessError as error:
        return Finding(training=workload.name, answer="failed", reason=str(error))
    return Finding(training=workload.name, answer=verdict.conclusion, verdict=verdict, reason=verdict.reason)


def _told(failure: RankFailure) -> str:
    """Return what a rank failed of, and the innermost place of the stack that is not a library's, if one is known."""
    stack = next((text for label, text in failure.stacks.items() if label.endswith(f"rank {failure.rank}")), "")
    own = [line.strip() for line in stack.splitlines() if line.strip().startswith("File ") and _users(line)]
    place = f" ({own[-1]})" if own else ""
    return f"rank {failure.rank} {failure.cause}{place}"


def _users(line: str) -> bool:
    return not any(f"{os.sep}{name}{os.sep}" in line for name in ("site-packages", "harness", "dist-packages"))
