"""What a run's records come to, in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from fixtures.sample_records import RUN, divergence, interval, record, sample, skipped, timing, verdict
from harness import processes
from harness.record import Record
from harness.report import headline
from harness.report import summary as summaries
from harness.store import Run, RunInfo

# Of this machine, and long gone: no process has started at the time 0 under that number.
DEAD = processes.name().rpartition("/")[0] + "/0"


def crashed(strategy: str, workload: str) -> Record:
    return msgspec.structs.replace(skipped(strategy, workload, 2, "RankFailure: rank 1 died"), failed=True)


def run_of(records: list[Record], **info: Any) -> Run:
    settings: dict[str, Any] = {"id": RUN, "ended": "2026-11-20T10:19:14Z", "exit_status": 0} | info
    return Run(directory=Path(RUN), info=RunInfo(**settings), records=tuple(records))


def answer_of(records: list[Record]) -> str:
    return headline.answer(summaries.summarise(run_of(records)))


def test_the_answer_counts_strategies_and_names_the_fastest() -> None:
    assert answer_of(sample()) == (
        "3 of 5 strategies equal serial (2 of them in part to a named reference) on the 15 of 23 cases that ran; "
        "1 differs (tf-mirrored); 1 inconclusive (torchgpipe); largest speed-up: torch-ddp 1.81x [1.75, 1.87] on 2 CPU "
        "ranks; 2 strategies not verified here."
    )


@pytest.mark.parametrize(
    ("records", "answer"),
    [
        ([], "Nothing was verified: no case was recorded."),
        ([record(world_size=1)], "No parallelism was verified: every case has world size 1."),
        ([skipped("a", "w", 2, "no")], "Nothing was verified: 1 strategy could not be judged here."),
        ([record()], "1 of 1 strategy equals serial."),
        ([record(conclusion="different")], "0 of 1 strategy equal serial; 1 differs (torch-ddp)."),
        (
            [record(), skipped("torch-ddp", "w", 2, "no")],
            "1 of 1 strategy equals serial on the 1 of 2 cases that ran.",
        ),
        (
            [record(), crashed("torch-ddp", "w")],
            "0 of 1 strategy equal serial; 1 failed (torch-ddp).",
        ),
        (
            [record(world_size=1), skipped("torch-ddp", "w", 2, "no")],
            "Nothing was verified: 1 strategy could not be judged here.",
        ),
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
    answer = headline.answer(summaries.summarise(run_of([record(timing=timing(times))])))
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


def test_a_strategy_that_differs_somewhere_is_never_the_fastest() -> None:
    wrong = [record(timing=timing(9.0)), record(workload="digits-cnn", conclusion="different")]
    other = record("torch-threads", timing=timing(1.8))
    told = answer_of([*wrong, other])
    assert "1 differs (torch-ddp); largest speed-up: torch-threads 1.80x" in told
    slow = record("torch-threads", timing=timing(0.5))
    assert "no equal one is faster than serial (best: torch-threads" in answer_of([*wrong, slow])
    assert "torch-ddp 9.00x" in answer_of([wrong[0], other]), "negative control"


def test_a_speed_up_whose_times_have_warnings_says_so() -> None:
    noisy = timing(1.8, warnings=("epochs scatter", "a drift"))
    assert answer_of([record(timing=noisy)]).endswith("on 2 CPU ranks, with 2 warnings about its times.")
    assert answer_of([record(timing=timing(1.8))]).endswith("on 2 CPU ranks."), "negative control"


def test_what_is_equal_to_something_else_than_plain_serial_training_is_told_apart() -> None:
    second = record("torch-threads", workload="digits-bn", evidence=verdict(reference="per-shard-batchnorm"))
    second = msgspec.structs.replace(second, reference="per-shard-batchnorm")
    plain = record("torch-threads")
    assert answer_of([record(), second]) == "2 of 2 strategies equal serial (1 of them to a named reference)."
    assert answer_of([record(), plain, second]) == (
        "2 of 2 strategies equal serial (1 of them in part to a named reference)."
    )
    drawn = msgspec.structs.replace(record(), reference="statistical")
    assert answer_of([drawn]) == "1 of 1 strategy equals serial (statistically)."
    assert answer_of([record(), plain]) == "2 of 2 strategies equal serial.", "negative control"


@pytest.mark.parametrize(
    ("info", "start", "why"),
    [
        ({"ended": ""}, "So far, 1 of 1", "9 cases have not run yet"),
        ({"exit_status": 2}, "Before the run was interrupted, 1 of 1", "9 cases did not run: the run was interrupted"),
        (
            {"ended": "", "process": DEAD},
            "Before the run was killed, 1 of 1",
            "9 cases did not run: the run was killed",
        ),
        ({"exit_status": 1}, "1 of 1", "9 cases did not run: the run stopped before"),
    ],
)
def test_what_was_planned_and_has_no_record_is_never_left_out(info: dict[str, Any], start: str, why: str) -> None:
    summary = summaries.summarise(run_of([record()], num_planned=10, **info))
    assert headline.answer(summary) == f"{start} strategy equals serial on the 1 of 10 cases that ran."
    assert summaries.unrun(summary) == why
    assert summaries.tally(summary) == "1 of 10 cases: 1 equivalent"
    assert "(so far)" in headline.question(summary)
    assert not summaries.unrun(summaries.summarise(run_of([record()], num_planned=1, **info))), "negative control"


def test_a_run_that_has_not_got_far_claims_nothing() -> None:
    empty = summaries.summarise(run_of([], num_planned=3, exit_status=2))
    assert headline.answer(empty) == "Nothing was verified: 3 cases did not run: the run was interrupted."
    begun = summaries.summarise(run_of([record(world_size=1)], num_planned=3, ended=""))
    assert headline.answer(begun) == "So far, no parallelism was verified: every case has world size 1."


def test_a_bug_that_went_unseen_begins_the_answer() -> None:
    assert answer_of([record(), record(fault="sum")]) == (
        "1 injected fault went unseen (sum on torch-ddp); 1 of 1 strategy equals serial."
    )
    assert answer_of([record(fault="sum")]) == (
        "No case was asked for, only 1 injected fault; 1 injected fault went unseen (sum on torch-ddp)."
    )
    untried = msgspec.structs.replace(skipped("torch-ddp", "w", 2, "needs a GPU"), fault="sum")
    assert answer_of([record(), untried]) == "1 of 1 strategy equals serial.", "negative control"
    assert summaries.remarks(summaries.summarise(run_of([record(), untried]))) == [
        "1 injected fault asked for, none tried here"
    ]


def test_what_failed_is_not_listed_as_not_verified() -> None:
    summary = summaries.summarise(run_of([record(), crashed("torch-dp", "w"), skipped("a", "w", 2, "no GPU")]))
    assert summaries.not_verified(summary) == [("no GPU", ["w/a/2/cpu"])]
    assert summaries.failures(summary) == [("RankFailure: rank 1 died", ["w/torch-dp/2/cpu"])]


def test_injected_faults_do_not_make_a_strategy_different() -> None:
    summary = summaries.summarise(run_of([record(), record(conclusion="different", fault="sum")]))
    assert headline.answer(summary) == "1 of 1 strategy equals serial."
    assert "Of 1 injected fault 1 came out different, as each must" in summaries.remarks(summary)


def test_a_fault_that_went_unseen_is_told() -> None:
    summary = summaries.summarise(run_of([record(fault="sum"), record(fault="stale", conclusion="different")]))
    assert summaries.remarks(summary) == [
        "Of 2 injected faults 1 came out different, as each must; missed: sum on torch-ddp"
    ]


def test_the_tally_counts_cases() -> None:
    assert summaries.tally(summaries.summarise(run_of(sample()))) == (
        "23 cases: 13 equivalent, 1 different, 1 inconclusive, 8 not verified"
    )
    assert summaries.tally(summaries.summarise(run_of([]))) == "0 cases"


def test_the_question_names_what_was_asked() -> None:
    assert headline.question(summaries.summarise(run_of([record()]))) == (
        "Does torch-ddp compute what serial training computes on digits-mlp, and how much faster?"
    )
    assert "each of 7 strategies" in headline.question(summaries.summarise(run_of(sample())))


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


def test_strong_and_weak_scaling_are_never_in_one_table() -> None:
    records = [record(timing=timing(1.7)), record(world_size=4, timing=timing(3.0, 4, scaling="weak"))]
    assert set(summaries.timed(summaries.summarise(run_of(records)))) == {"digits-mlp", "digits-mlp, weak scaling"}
