"""What a run's records come to, in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.sample_records import RUN, divergence, interval, record, sample, skipped, timing, verdict
from harness.record import Record
from harness.report import summary as summaries
from harness.store import Run, RunInfo


def run_of(records: list[Record], **info: Any) -> Run:
    settings: dict[str, Any] = {"id": RUN, "ended": "2026-11-20T10:19:14Z", "exit_status": 0} | info
    return Run(directory=Path(RUN), info=RunInfo(**settings), records=tuple(records))


def answer_of(records: list[Record]) -> str:
    return summaries.answer(summaries.summarise(run_of(records)))


def test_the_answer_counts_strategies_and_names_the_fastest() -> None:
    assert answer_of(sample()) == (
        "3 of 5 strategies equal serial; largest speed-up: torch-ddp 1.81x [1.75, 1.87] on 2 CPU ranks; "
        "1 differs (tf-mirrored); 1 inconclusive (torchgpipe); 2 not verified here."
    )


@pytest.mark.parametrize(
    ("records", "answer"),
    [
        ([], "Nothing was verified: no case was recorded."),
        ([record(world_size=1)], "No parallelism was verified: every case has world size 1."),
        ([skipped("a", "w", 2, "no")], "Nothing was verified: 1 strategy could not be judged here."),
        ([record()], "1 of 1 strategy equals serial."),
        ([record(conclusion="different")], "0 of 1 strategy equal serial; 1 differs (torch-ddp)."),
        ([record(), skipped("torch-ddp", "w", 2, "no")], "1 of 1 strategy equals serial."),
    ],
)
def test_the_answer_claims_no_more_than_was_seen(records: list[Record], answer: str) -> None:
    assert answer_of(records) == answer


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (1.5, "largest speed-up: torch-ddp 1.50x"),
        (1.01, "none is measurably faster than serial (best: torch-ddp 1.01x"),
        (0.2, "none is faster than serial (best: torch-ddp 0.20x"),
    ],
)
def test_a_slow_down_is_never_called_fast(times: float, words: str) -> None:
    assert words in answer_of([record(timing=timing(times))])


def test_one_different_case_makes_its_strategy_different() -> None:
    records = [record(), record(workload="digits-cnn", conclusion="different"), record(workload="mnist-cnn")]
    assert answer_of(records) == "0 of 1 strategy equal serial; 1 differs (torch-ddp)."


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (1.8, None),
        (1.39, "not measurably faster than serial on the whole machine"),
        (1.2, "slower than serial on the whole machine"),
    ],
)
def test_a_strategy_that_only_beats_one_share_is_said_to(times: float, said: str | None) -> None:
    answer = summaries.answer(summaries.summarise(run_of([record(timing=timing(times))])))
    assert (said or "on 2 CPU ranks.") in answer
    assert ("whole machine" in answer) == (said is not None)


@pytest.mark.parametrize(
    "changes",
    [
        {"conclusion": "different", "timing": timing(9.0)},
        {"timing": timing(9.0, struck="oversubscribed")},
        {"timing": timing(9.0), "world_size": 1},
        {"timing": timing(9.0, speedup=interval(float("nan")))},
    ],
)
def test_only_a_readable_speed_up_of_an_equivalent_parallel_case_can_be_the_fastest(changes: dict[str, Any]) -> None:
    other = record("torch-threads", timing=timing(1.1))
    fastest = summaries.summarise(run_of([record(**changes), other])).fastest
    assert fastest is not None
    assert fastest.strategy == "torch-threads"
    assert summaries.summarise(run_of([record(timing=timing(9.0)), other])).fastest != fastest, "negative control"


def test_injected_faults_do_not_make_a_strategy_different() -> None:
    summary = summaries.summarise(run_of([record(), record(conclusion="different", fault="sum")]))
    assert summaries.answer(summary) == "1 of 1 strategy equals serial."
    assert "1 of 1 injected fault came out different, as each must" in summaries.remarks(summary)


def test_a_fault_that_went_unseen_is_told() -> None:
    summary = summaries.summarise(run_of([record(fault="sum"), record(fault="stale", conclusion="different")]))
    assert summaries.remarks(summary) == [
        "1 of 2 injected faults came out different, as each must; unseen: sum in digits-mlp/torch-ddp/2/cpu"
    ]


def test_the_tally_counts_cases() -> None:
    assert summaries.tally(summaries.summarise(run_of(sample()))) == (
        "23 cases: 13 equivalent, 1 different, 1 inconclusive, 8 not verified"
    )
    assert summaries.tally(summaries.summarise(run_of([]))) == "0 cases"


def test_the_question_names_what_was_asked() -> None:
    assert summaries.question(summaries.summarise(run_of([record()]))) == (
        "Does torch-ddp compute what serial training computes on digits-mlp, and how much faster?"
    )
    assert "each of 7 strategies" in summaries.question(summaries.summarise(run_of(sample())))


@pytest.mark.parametrize(
    ("info", "words"),
    [({"ended": ""}, "has not ended, or was killed"), ({"exit_status": 2}, "was interrupted")],
)
def test_an_unfinished_run_says_so(info: dict[str, Any], words: str) -> None:
    assert any(words in remark for remark in summaries.remarks(summaries.summarise(run_of([record()], **info))))
    assert not summaries.remarks(summaries.summarise(run_of([record()]))), "negative control"


def test_a_second_reference_is_told_with_the_answer() -> None:
    judged = verdict(reference="per-shard-batchnorm", plain=divergence())
    (remark,) = summaries.remarks(summaries.summarise(run_of([record(evidence=judged)])))
    assert remark.startswith("1 case judged against a named second reference (per-shard-batchnorm)")


def test_what_was_not_verified_is_grouped_by_reason() -> None:
    reasons = summaries.not_verified(summaries.summarise(run_of(sample())))
    assert [len(names) for _, names in reasons] == [6, 1, 1]
    assert reasons[0][0] == "needs 2 CUDA devices, found 0 (CUDA_VISIBLE_DEVICES is not set)"
    assert reasons[1][0] == "RankFailure: rank 1 was killed by SIGKILL at step 3 (mnist-cnn/horovod-torch/2/cpu)"


def test_the_matrix_has_a_row_per_strategy_world_size_and_device_and_references_come_last() -> None:
    columns, rows = summaries.matrix(summaries.summarise(run_of(sample())).cases)
    assert columns == ["digits-cnn", "digits-mlp", "mnist-cnn"]
    assert list(rows)[-2:] == [("keras-serial", 1, "cpu"), ("torch-serial", 1, "cpu")]
    assert rows["torch-ddp", 4, "cpu"].keys() == {"digits-mlp"}


def test_two_definitions_of_one_workload_do_not_hide_each_other() -> None:
    records = [record(), record("torch-threads", workload_digest="other0000000", conclusion="different")]
    columns, rows = summaries.matrix(summaries.summarise(run_of(records)).cases)
    assert columns == ["digits-mlp (0a1b2c3d4e5f)", "digits-mlp (other0000000)"]
    assert sum(len(cases) for cases in rows.values()) == 2


def test_strong_and_weak_scaling_are_never_in_one_table() -> None:
    records = [record(timing=timing(1.7)), record(world_size=4, timing=timing(3.0, 4, scaling="weak"))]
    assert set(summaries.timed(summaries.summarise(run_of(records)))) == {"digits-mlp", "digits-mlp, weak scaling"}
