"""A case on the page: its line in the list, and everything about it once it is opened."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from fixtures.sample_records import (
    CRASH,
    ENVIRONMENT,
    RUN,
    divergence,
    hostile,
    interval,
    logs,
    record,
    sample,
    skipped,
    timing,
    verdict,
)
from harness.record import LADDER, Accuracy, Log, Power, Record
from harness.report import words
from harness.report.sections.cases import Detail, detail, line
from harness.timings import Compared


def settings_of(found: Detail) -> dict[str, str]:
    return dict(found.settings)


def test_a_line_holds_what_a_case_is_found_and_sorted_by() -> None:
    found = line(record("torch-ddp", world_size=4, timing=timing(1.72, 4), margin=1.23456))
    assert (found.case, found.strategy, found.workload) == ("digits-mlp/torch-ddp/4/cpu", "torch-ddp", "digits-mlp")
    assert (found.framework, found.device, found.ranks, found.fault) == ("torch", "cpu", 4, None)
    assert (found.tone, found.verdict, found.margin) == ("equivalent", "equivalent", 1.235)
    assert (found.speedup, found.figure) == (1.72, "1.72x [1.66, 1.78]")
    assert found.told.startswith("equal to serial within rounding")


def test_a_failure_is_told_as_one_in_the_colours_of_a_difference() -> None:
    found = line(msgspec.structs.replace(skipped("horovod-torch", "mnist-cnn", 2, CRASH), failed=True))
    assert (found.tone, found.verdict) == ("different", "failed")
    assert found.told == CRASH.splitlines()[0], "one line; the stack is in the details"


@pytest.mark.parametrize(
    "case",
    [
        record(conclusion="different", timing=timing(1.72)),
        record(timing=timing(1.72, struck="shared cores")),
        record(world_size=1, timing=timing(1.72)),
        record(timing=timing(math.nan)),
        record(timing=timing(1.72, speedup=None)),
        record(),
    ],
)
def test_a_line_has_no_speed_up_where_there_is_none_to_show(case: Record) -> None:
    found = line(case)
    assert (found.speedup, found.figure) == (None, "")


def test_the_fault_of_a_case_stands_in_its_line() -> None:
    assert line(record(conclusion="different", fault="sum-instead-of-mean")).fault == "sum-instead-of-mean"


def test_the_rungs_stand_in_the_order_of_the_ladder_with_those_that_were_not_shown() -> None:
    judged = verdict()
    jumbled = msgspec.structs.replace(judged, rungs=judged.rungs[::-1])
    ladder = detail(record(evidence=jumbled), {}).ladder
    assert [rung.rung for rung in ladder] == [rung for rung in LADDER if rung != "buffers"]
    by_name = {rung.rung: rung for rung in ladder}
    clipped = by_name["gradients after clipping"]
    assert (clipped.not_shown, clipped.ratio, clipped.where) == ("this workload does not clip", None, "")
    loss = next(rung for rung in judged.rungs if rung.rung == "loss")
    shown = by_name["loss"]
    assert shown.where == f"step {loss.step}, rank {loss.rank}, loss (12 comparisons)"
    assert shown.ratio == pytest.approx(loss.ratio, rel=1e-3)
    assert shown.figure == words.number(loss.ratio, 2)
    assert detail(record(evidence=jumbled), {}).allowed == judged.factor


def test_a_case_that_was_not_judged_has_no_ladder() -> None:
    found = detail(skipped("torch-dp", "mnist", 2, "needs 2 CUDA devices, found 0"), {})
    assert (found.ladder, found.figures, found.allowed, found.struck) == ((), (), None, None)
    assert found.lead == "needs 2 CUDA devices, found 0"


def test_where_a_case_first_diverges_is_a_sentence_of_its_own() -> None:
    found = detail(record(conclusion="different"), {})
    assert found.found == words.divergence(divergence())
    assert detail(record(), {}).found == ""


def test_a_struck_time_comes_with_its_reason() -> None:
    timed = timing(1.7, struck="ranks shared cores")
    assert detail(record(timing=timed), {}).struck == (
        words.seconds(words.epoch_s(timed)),
        "no speed-up: ranks shared cores",
    )
    assert detail(record(timing=timing(1.7)), {}).struck is None


def remarks(**changes: Any) -> str:
    return " ".join(detail(record(**changes), {}).remarks)


def test_what_a_reader_must_know_before_trusting_a_case_is_remarked() -> None:
    assert "World size 1: this case proves nothing about parallelism." in remarks(world_size=1)
    assert "World size 1" not in remarks()
    power = Power(killed=("no-sync", "wrong-scale"), survived=("late-clip",))
    assert "told 2 of 3 from the sound run: no-sync and wrong-scale; not late-clip." in remarks(
        evidence=verdict(power=power)
    )
    second = verdict(reference="per-shard-batchnorm", plain=divergence(6e11, "loss", 1))
    assert "Judged against the named reference per-shard-batchnorm. From plain serial" in remarks(evidence=second)
    assert "Moved too little to be judged: fc2.weight." in remarks(evidence=verdict(unresolved=("fc2.weight",)))
    assert "conv1.bias" in remarks(evidence=verdict(no_signal=("conv1.bias",)))
    assert "drifts by 6 %" in remarks(timing=timing(1.7, warnings=("drifts by 6 %",)))
    earlier = Compared(run=RUN, outcome="slower", words="9 % slower than before", floor=0.03)
    assert "Against an earlier run: 9 % slower than before." in remarks(timing=timing(1.7, compared=earlier))


def test_very_many_names_are_cut_and_counted() -> None:
    names = tuple(f"layer{number}.bias" for number in range(500))
    told = remarks(evidence=verdict(no_signal=names))
    assert "layer11.bias and 488 more." in told


def test_how_a_case_was_run_is_told_with_units() -> None:
    settings = settings_of(detail(record(timing=timing(1.7), features={"num_micro_batches": 4}), {}))
    assert settings["peak memory"] == "393 MiB"
    assert settings["micro batches"] == "4"
    assert settings["reference"] == "plain"
    assert settings["precision of the check"] == "float64"
    assert settings["took"] == "310 ms"
    assert settings["started"] == "20 Nov 2026, 10:15 UTC"
    assert settings["test"].startswith("suites/conformance/test_parity.py::")
    assert "known" not in settings


def test_in_what_a_library_is_known_to_differ_is_named() -> None:
    assert settings_of(detail(record(conclusion="different", finding="ddp-uneven"), {}))["known"] == "ddp-uneven"


def test_what_is_empty_is_left_out() -> None:
    assert all(value for _, value in detail(record(test="", started="", dtype=""), {}).settings)


def test_only_what_is_not_as_in_the_rest_of_the_run_is_told_of_the_environment() -> None:
    case = record(environment=ENVIRONMENT | {"torch": "2.16.0", "gpu_model": "H200"})
    assert detail(case, ENVIRONMENT).environment == (("torch", "2.16.0"), ("gpu model", "H200"))
    assert detail(case, case.environment).environment == ()


def test_the_command_and_the_accuracy_are_told() -> None:
    found = detail(record(accuracy=Accuracy(serial=0.98, parallel=0.97, num_held_out=360, epochs=5)), {})
    assert found.command.startswith("pytest suites/conformance -k 'digits-mlp/torch-ddp/2/cpu'")
    assert found.accuracy == ("Held-out accuracy after 5 epochs: serial 98.00 %, parallel 97.00 % (of 360 samples).")


def test_what_every_rank_printed_is_there_and_says_how_much_of_it() -> None:
    silent = detail(record(), {}).logs
    assert [(log.who, log.told, log.text) for log in silent] == [
        ("rank 0", "printed nothing", ""),
        ("rank 1", "printed nothing", ""),
    ]
    guilty, _ = detail(record(logs=logs(2, "epoch 0\n", stack="File x")[::-1]), {}).logs
    assert (guilty.who, guilty.told, guilty.text, guilty.stack) == ("rank 1", "8.00 B", "epoch 0\n", "File x")
    long = Log(who="rank 0", text="a\n[... 4980 bytes ...]\nend\n", num_bytes=5000, stack="", path="logs/rank-0.txt")
    (cut,) = detail(record(logs=(long,)), {}).logs
    assert cut.told == "4.88 KiB, cut; all of it in logs/rank-0.txt"
    (whole,) = detail(record(logs=(Log(who="rank 0", text="end", num_bytes=5),)), {}).logs
    assert whole.told == "5.00 B", "a line's end that is left out is nothing that is missed"


def test_output_that_is_no_text_does_not_break_a_page() -> None:
    (log,) = detail(record(logs=(Log(who="rank 0", text="\ud800", num_bytes=3, stack=""),)), {}).logs
    assert log.told.startswith("3.00 B")


def test_every_case_has_a_line_and_details() -> None:
    for case in sample() + hostile():
        assert line(case).told == detail(case, ENVIRONMENT).lead != ""


def test_the_speed_up_of_a_line_is_the_one_that_the_answer_names() -> None:
    case = record(timing=timing(1.5, speedup=interval(1.23456)))
    assert line(case).speedup == 1.235
