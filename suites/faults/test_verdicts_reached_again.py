"""What a case leaves answers the same once more: for every way in which verdicts are reached, sound and wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from harness import Workload, workloads
from harness.evidence.keeping import FOLDER, TABLES
from harness.evidence.manifest import decode_question, placed
from harness.evidence.question import Question, answer
from harness.record import Conclusion, Verdict
from harness.runner import Runner
from harness.spec import Case, Fault

MLP = workloads.get("digits-mlp")


def kept(
    own: Runner, run: Path, workload: Workload, strategy: str, fault: Fault | None = None
) -> tuple[Verdict, Question]:
    """Judge a case whose traces are kept; return its verdict and what it left."""
    keeping = Runner(dataclasses.replace(own.settings, traces=run), own.pool, own.trainings.kept)
    verdict = keeping.verdict(Case(workload=workload.name, strategy=strategy, world_size=2), workload, fault)
    (file,) = (run / FOLDER).glob("*.json")
    return verdict, placed(decode_question(file.read_bytes(), str(file)), run / TABLES)


def checked(workload: Workload, name: str, **check: object) -> Workload:
    """A workload of this file's own, with a check of its own."""
    return msgspec.structs.replace(workload, name=name, check=msgspec.structs.replace(workload.check, **check))


@pytest.mark.parametrize(
    ("fault", "conclusion"),
    [(None, "equivalent"), ("sum-for-mean", "different"), ("stale-gradients", "different")],
    ids=["sound", "sum-for-mean", "stale-gradients"],
)
def test_a_case_and_its_bugs_are_judged_again_alike(
    fault: str | None, conclusion: Conclusion, ls_runner: Runner, tmp_path: Path
) -> None:
    injected = Fault(name=fault) if fault else None
    verdict, question = kept(ls_runner, tmp_path, checked(MLP, "kept-mlp"), "torch-ddp", injected)
    assert verdict.conclusion == conclusion, verdict
    assert (verdict.diagnosis is not None) == (fault is not None)
    assert answer(question) == verdict


def test_a_resumed_case_is_judged_again_leg_by_leg(ls_runner: Runner, tmp_path: Path) -> None:
    verdict, question = kept(ls_runner, tmp_path, checked(MLP, "kept-resumed", resume_at=3), "torch-ddp")
    assert verdict.equivalent, verdict
    assert len(question.trainings[0].legs) == 2
    assert answer(question) == verdict


def test_a_case_with_a_named_reference_is_judged_again_by_that(ls_runner: Runner, tmp_path: Path) -> None:
    normalised = checked(workloads.get("digits-batchnorm-even"), "kept-normalised", num_steps=2)
    verdict, question = kept(ls_runner, tmp_path, normalised, "torch-ddp")
    assert (verdict.reference, verdict.plain is not None) == ("per-shard-batchnorm", True)
    assert answer(question) == verdict


def test_an_alarm_in_float32_is_judged_again_with_what_confirmed_it(ls_runner: Runner, tmp_path: Path) -> None:
    single = checked(MLP, "kept-single", dtype="float32")
    verdict, question = kept(ls_runner, tmp_path, single, "torch-ddp", Fault(name="sum-for-mean"))
    assert verdict.conclusion == "different"
    assert len(question.trainings) == 2
    assert answer(question) == verdict


def test_a_case_over_paired_seeds_is_judged_again_over_all_of_them(ls_runner: Runner, tmp_path: Path) -> None:
    verdict, question = kept(ls_runner, tmp_path, checked(MLP, "kept-seeds"), "torch-ddp+hook=fp16")
    assert verdict.reference == "statistical"
    assert len(question.seeds) == len(verdict.statistics[0].seeds)
    assert answer(question) == verdict
