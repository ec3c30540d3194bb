"""A report fits one screen, whatever it says."""

from __future__ import annotations

import pytest

from harness.check.asking import Answer, Finding, Question, Report
from harness.check.screen import COLUMNS, LINES, screen
from harness.contract.trainings import CONTRACT
from harness.record import Diagnosis, Divergence, Power, Verdict
from harness.strategies import base as strategies

AWAY = Divergence(rung="parameters", step=-1, rank=1, tensor="a" * 90, observed=1.0, floor=1e-16, threshold=1e-14)
CAUSE = Diagnosis(cause="x", confidence="certain", words="w " * 300, check="c " * 300, mend="m " * 300)


def finding(answer: Answer, training: str = "sgd", words: str = "because", **fields: object) -> Finding:
    if answer in {"failed", "not asked"}:
        return Finding(training=training, answer=answer, reason=words)
    verdict = Verdict(conclusion=answer, reason=words, margin=1.0, **fields)  # type: ignore[arg-type]
    return Finding(training=training, answer=answer, verdict=verdict, reason=words)


def report(*findings: Finding) -> Report:
    question = Question(where="my file.py:step", world_size=3)
    return Report(question=question, strategy=strategies.get("torch-ddp"), findings=findings)


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        (("equivalent", "equivalent", "not asked"), 0),
        (("equivalent", "different", "failed"), 1),
        (("equivalent", "failed", "inconclusive"), 2),
        (("equivalent", "inconclusive"), 3),
        (("not-verified",), 3),
        (("not asked", "not asked"), 3),
    ],
)
def test_the_status_is_that_of_the_gravest_answer(answers: tuple[Answer, ...], status: int) -> None:
    found = report(*map(finding, answers))
    assert found.status == status
    assert found.as_json()["status"] == status


@pytest.mark.parametrize("num_trainings", [1, 6, 40])
@pytest.mark.parametrize("answer", ["equivalent", "different", "failed", "inconclusive"])
def test_the_longest_words_fit_a_screen(answer: Answer, num_trainings: int) -> None:
    wrong = answer == "different"
    evidence = {"divergence": AWAY if wrong else None, "diagnosis": CAUSE if wrong else None}
    evidence["power"] = Power(killed=("a", "b"), survived=("c" * 300,)) if answer == "equivalent" else None  # type: ignore[assignment]
    lines = screen(report(*[finding(answer, "t" * 50, "long " * 500, **evidence)] * num_trainings))
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    assert lines[-1].startswith(answer if answer != "inconclusive" else "not verified")


def test_a_difference_is_told_with_its_place_its_cause_and_how_to_ask_again() -> None:
    away = Divergence(rung="loss", step=2, rank=1, tensor="loss", observed=1.0, floor=1e-16, threshold=1e-14)
    cause = Diagnosis(cause="x", confidence="likely", words="it adds up", check="count", mend="divide")
    lines = screen(
        report(
            finding("equivalent", power=Power(killed=("a", "b"), survived=("c",))),
            finding("not asked", "clipped", "the step takes no clip_norm"),
            finding("different", "adamw", "differs first at step 2", divergence=away, diagnosis=cause),
        )
    )
    assert lines[0].endswith("on 3 ranks against torch-serial")
    assert "clipped   not asked           the step takes no clip_norm" in lines
    assert "adamw     different   1       step 2, rank 1, loss, loss" in lines
    told = lines[lines.index("") + 1 :]
    assert told == [
        "adamw: differs first at step 2",
        "cause (likely): it adds up",
        "make sure: count",
        "mend: divide",
        "again: harness check 'my file.py:step' --world-size=3 --workload=adamw",
        "",
        "Of bugs put in on purpose these checks told 2 of 3; not told: c.",
        "different: it does not compute what serial training computes (1 equivalent, 1 not asked, 1 different)",
    ]


def test_what_steers_a_terminal_is_not_printed() -> None:
    assert "\x1b" not in "".join(screen(report(finding("failed", words="red \x1b[31m"))))


def test_every_training_of_the_contract_is_shown_beside_a_difference_with_its_cause() -> None:
    rows = [finding("different", workload.name, divergence=AWAY, diagnosis=CAUSE) for workload in CONTRACT]
    lines = screen(report(*rows))
    assert all(any(line.startswith(workload.name) for line in lines) for workload in CONTRACT)
