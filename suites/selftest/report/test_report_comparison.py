"""Two runs held against each other: like with like, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.sample_records import ENVIRONMENT, RUN, record, sample, skipped, timing
from harness.record import Record
from harness.report import compare
from harness.report.comparison import ratio_of_medians
from harness.store import Run, RunInfo


def run_of(*records: Record, **environment: Any) -> Run:
    info = RunInfo(id=RUN, environment=ENVIRONMENT | environment)
    return Run(directory=Path(RUN), info=info, records=records)


def test_a_run_equals_itself() -> None:
    found = compare(run_of(*sample()), run_of(*sample()))
    assert not found.environment
    assert not found.verdicts
    assert all(not speed.slower and not speed.faster for speed in found.speeds)
    assert len(found.speeds) == 9
    assert [case for case, _ in found.refused] == ["digits-cnn/tf-mirrored/2/cpu"], "a struck case is never compared"


def test_where_the_runs_took_place_comes_first_then_verdicts_then_speed() -> None:
    a = run_of(record(timing=timing(1.7)))
    b = run_of(record(conclusion="different", timing=timing(1.7)), torch="2.16.0")
    lines = compare(a, b).lines()
    order = [lines.index(title) for title in ("environment", "verdicts", "time per epoch", "not compared")]
    assert order == sorted(order)
    assert any(line.split() == ["torch", "2.15.0", "2.16.0"] for line in lines)
    assert any("equivalent" in line and "different" in line for line in lines)


@pytest.mark.parametrize(("factor", "slower", "faster"), [(1.3, True, False), (0.7, False, True), (1.0, False, False)])
def test_a_change_of_speed_is_told_only_beyond_its_interval(factor: float, slower: bool, faster: bool) -> None:
    a = run_of(record(timing=timing(1.7, typical_s=1.0)))
    b = run_of(record(timing=timing(1.7, typical_s=factor, seed=5)))
    (speed,) = compare(a, b).speeds
    assert (speed.slower, speed.faster) == (slower, faster)
    assert speed.ratio.median == pytest.approx(1 / factor, rel=0.05)


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (
            record(timing=timing(1.7)),
            record(timing=timing(1.7), workload_digest="other"),
            "the workload is not the same",
        ),
        (record(timing=timing(1.7)), record("torch-dp"), "only in A"),
        (record("torch-dp"), record(timing=timing(1.7)), "only in B"),
        (record(timing=timing(1.7)), record(), "not timed in B"),
        (
            record(timing=timing(1.7, struck="shared cores")),
            record(timing=timing(1.7)),
            "no speed-up: shared cores in A",
        ),
        (record(timing=timing(1.7)), record(conclusion="different", timing=timing(1.7)), "no speed-up: different in B"),
        (record(timing=timing(1.7, epoch_wall_s=(1.0,))), record(timing=timing(1.7)), "1 epoch in A"),
        (record(timing=timing(1.7, epoch_wall_s=(1.0, float("nan")))), record(timing=timing(1.7)), "not a positive"),
    ],
)
def test_unlike_cases_are_refused_by_name(a: Record, b: Record, reason: str) -> None:
    found = compare(run_of(a), run_of(b))
    assert not found.speeds
    (refused,) = found.refused
    assert refused[0] == "digits-mlp/torch-ddp/2/cpu"
    assert reason in refused[1]


def test_a_case_that_neither_run_timed_is_not_complained_about() -> None:
    assert not compare(run_of(record()), run_of(record(), skipped("x", "y", 2, "no"))).refused


def test_a_case_that_only_one_run_holds_is_a_change_of_verdict() -> None:
    found = compare(run_of(record()), run_of(record(), record("torch-threads")))
    assert found.verdicts == (("digits-mlp/torch-threads/2/cpu", "not in this run", "equivalent"),)


def test_too_few_epochs_for_a_bootstrap_give_their_whole_range() -> None:
    ratio = ratio_of_medians([1.0, 1.1, 1.2], [1.0, 0.9])
    assert ratio.low == 1.0
    assert ratio.high == pytest.approx(1.2 / 0.9)


def test_more_epochs_give_a_narrower_interval() -> None:
    few, many = (ratio_of_medians([1.0, 1.1, 1.2] * n, [1.0, 0.9, 1.1] * n) for n in (2, 40))
    assert many.high - many.low < few.high - few.low
    assert many.low <= many.median <= many.high
