"""Steps and wrappers as users write them, right and wrong, each asked one training of the contract."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.check.asking import Finding, Question, ask
from harness.cli import main
from harness.errors import SpecError, UnknownNameError
from harness.runner import Runner
from harness.strategies import base as strategies

STEPS = Path(__file__).parents[3] / "fixtures" / "user_steps.py"
pytestmark = [pytest.mark.torch, pytest.mark.xdist_group("torch")]
pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _passing() -> Iterator[None]:
    with strategies._registry.passing():
        yield


def asked(runner: Runner, name: str, training: str = "sgd", **settings: object) -> Finding:
    question = Question(where=f"{STEPS}:{name}", trainings=(training,), **settings)  # type: ignore[arg-type]
    (finding,) = ask(question, runner).findings
    return finding


@pytest.mark.parametrize("training", ["uneven-batch", "clipped", "accumulated", "batch-norm"])
def test_a_step_that_weighs_every_sample_alike_stands_the_contract(training: str, ls_runner: Runner) -> None:
    finding = asked(ls_runner, "right", training)
    assert finding.answer == "equivalent", finding.reason


@pytest.mark.parametrize("name", ["wrap", "train"])
def test_wrappers_and_undeclared_strategies_are_asked_alike(name: str, ls_runner: Runner) -> None:
    assert asked(ls_runner, name).answer == "equivalent"


@pytest.mark.parametrize(
    ("name", "training", "words"),
    [
        ("forgets_to_average", "sgd", "at step 0, on every rank, in gradients before clipping"),
        ("forgets_broadcast", "sgd", "before training, on rank 1 only, in parameters"),
        ("wrap_nothing", "sgd", "before training, on rank 1 only, in parameters"),
        ("averages_means", "uneven-batch", "at step 2, on every rank, in gradients before clipping"),
        ("in_float32", "sgd", "its values are float32 numbers, expected float64"),
        ("becomes_nan", "sgd", "in loss of loss: NaN where the reference is finite"),
    ],
)
def test_what_a_step_gets_wrong_is_told_where_it_shows_first(
    name: str, training: str, words: str, ls_runner: Runner
) -> None:
    finding = asked(ls_runner, name, training)
    assert finding.answer == "different"
    assert words in finding.reason


def test_a_mean_of_means_is_no_mistake_where_shares_are_of_one_size(ls_runner: Runner) -> None:
    assert asked(ls_runner, "averages_means").answer == "equivalent"


def test_ranks_that_are_handed_equal_weights_need_no_broadcast(ls_runner: Runner) -> None:
    assert asked(ls_runner, "forgets_broadcast", starts_equal=True).answer == "equivalent"


@pytest.mark.parametrize("name", ["drops_out", "shuffles"])
def test_a_step_that_draws_for_itself_is_not_judged(name: str, ls_runner: Runner) -> None:
    finding = asked(ls_runner, name)
    assert finding.answer == "inconclusive"
    assert finding.reason.startswith(
        "the function, alone on one rank, run twice, does not repeat itself: it varies first"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", rf'rank 1 raised RuntimeError: the second rank has had enough (File "{STEPS}", line'),
        ("returns_nothing", "expected returns_nothing to return the mean loss of its samples, a number or a tensor of"),
        ("updates_by_itself", "expected updates_by_itself to call optimizer.step() but it did not at step 0"),
    ],
)
def test_a_step_that_does_not_do_what_a_step_does_is_told(name: str, words: str, ls_runner: Runner) -> None:
    question = Question(where=f"{STEPS}:{name}", trainings=("sgd", "adamw"))
    report = ask(question, ls_runner)
    first, second = report.findings
    assert first.answer == "failed"
    assert words in first.reason
    assert (second.answer, second.reason) == ("not asked", "a training before it failed")
    assert report.status == 2


def test_a_step_is_not_asked_what_it_does_not_take_part_in(ls_runner: Runner) -> None:
    finding = asked(ls_runner, "averages_means", "clipped")
    assert (finding.answer, finding.reason) == ("not asked", "the step takes no clip_norm")


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"where": f"{STEPS}:data_first"}, SpecError, "a step takes these four in this order"),
        ({"where": "torch-dpd"}, UnknownNameError, "did you mean 'torch-dp'"),
        (
            {"where": "torch-ddp", "trainings": ("clip",)},
            UnknownNameError,
            "unknown training 'clip'; did you mean 'clipped",
        ),
        ({"where": "torch-ddp", "trainings": ('{"name": 3}',)}, SpecError, "expected a workload as a JSON object"),
    ],
)
def test_a_question_that_cannot_be_meant_is_refused(
    settings: dict[str, object], error: type[Exception], words: str, ls_runner: Runner
) -> None:
    with pytest.raises(error, match=words):
        ask(Question(**settings), ls_runner)  # type: ignore[arg-type]


def test_the_command_tells_machines_the_same_and_ends_with_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{STEPS}:forgets_to_average", "--workload=sgd", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["command"] == f"harness check {STEPS}:forgets_to_average --world-size=2 --workload=sgd"
    (training,) = told["trainings"]
    assert (training["workload"], training["answer"]) == ("sgd", "different")
    assert training["verdict"]["divergence"]["rung"] == "gradients before clipping"


def test_bad_input_ends_the_command_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{STEPS}:nothing_of_the_kind"]) == 2
    assert "has no attribute 'nothing_of_the_kind'" in capsys.readouterr().err
