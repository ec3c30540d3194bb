"""Two runs held against each other: like with like, or refused by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fixtures.sample_records import ENVIRONMENT, RUN, record, sample, skipped, timing
from harness.record import Record
from harness.report import compare
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


@pytest.mark.parametrize(("factor", "slower", "faster"), [(1.6, True, False), (0.5, False, True), (1.0, False, False)])
def test_a_change_of_speed_is_told_only_beyond_its_interval(factor: float, slower: bool, faster: bool) -> None:
    a = run_of(record(timing=timing(1.7, typical_s=1.0)))
    b = run_of(record(timing=timing(1.7, typical_s=factor, seed=5)))
    found = compare(a, b)
    (speed,) = found.speeds
    assert (speed.slower, speed.faster) == (slower, faster)
    assert speed.found.ratio is not None
    assert speed.found.ratio.median == pytest.approx(factor, rel=0.05)
    assert any(speed.found.words in line for line in found.lines()) == slower


def test_other_runs_tell_how_runs_differ() -> None:
    a, b = (
        run_of(record(timing=timing(1.7, seed=seed, typical_s=1 + 0.15 * seed), run=f"run {seed}")) for seed in range(2)
    )
    assert not compare(a, b).speeds[0].slower
    others = [
        run_of(record(timing=timing(1.7, seed=seed, typical_s=1.0), run=f"run {seed}")) for seed in range(13, 1, -1)
    ]
    assert compare(a, b, others=others).speeds[0].slower
    assert not compare(a, b, others=others, floor=0.3).speeds[0].slower


def test_other_versions_are_refused_unless_that_is_allowed() -> None:
    a = run_of(record(timing=timing(1.7)))
    b = run_of(record(timing=timing(1.7), environment=ENVIRONMENT | {"torch": "2.16.0"}))
    ((_, reason),) = compare(a, b).refused
    assert "torch 2.15.0 before, 2.16.0 now" in reason
    assert compare(a, b, allow=["versions"]).speeds


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (
            record(timing=timing(1.7)),
            record(timing=timing(1.7), workload_digest="other"),
            "workload digest 0a1b2c3d4e5f before, other now",
        ),
        (record(timing=timing(1.7)), record("torch-dp"), "only in A"),
        (record("torch-dp"), record(timing=timing(1.7)), "only in B"),
        (record(timing=timing(1.7)), record(), "not timed now"),
        (
            record(timing=timing(1.7, struck="shared cores")),
            record(timing=timing(1.7)),
            "struck out (shared cores) before",
        ),
        (record(timing=timing(1.7)), record(conclusion="different", timing=timing(1.7)), "struck out (different) now"),
        (
            record(timing=timing(1.7, epoch_wall_s=(1.0,))),
            record(timing=timing(1.7)),
            "1 epoch where an interval needs 2 before",
        ),
        (record(timing=timing(1.7, epoch_wall_s=(1.0, float("nan")))), record(timing=timing(1.7)), "not a positive"),
    ],
)
def test_unlike_cases_are_refused_by_name(a: Record, b: Record, reason: str) -> None:
    found = compare(run_of(a), run_of(b))
    assert not found.speeds
    (refused,) = found.refused
    assert refused[0] == "digits-mlp/torch-ddp/2/cpu"
    assert reason in refused[1]


@pytest.mark.parametrize(
    ("b", "told"),
    [
        ([record("torch-dp", timing=timing(1.7)), record(conclusion="different")], "not timed now (different: "),
        ([record("torch-dp", timing=timing(1.7)), record(timing=timing(1.7, struck="shared"))], "struck out (shared)"),
        ([record("torch-dp", timing=timing(1.7))], "only in A"),
        ([], "nothing was compared"),
    ],
)
def test_a_case_that_can_no_longer_be_compared_is_no_pass(b: list[Record], told: str) -> None:
    a = run_of(record(timing=timing(1.7)), record("torch-dp", timing=timing(1.7)))
    now = dataclasses.replace(run_of(*b), directory=Path("b"))
    assert any(told in line for line in compare(a, now).failures())
    # The negative control: all of A's cases are there.
    assert not compare(a, dataclasses.replace(a, directory=Path("b"))).failures()


def test_a_case_whose_time_was_struck_before_is_not_missed() -> None:
    struck, fine = record(timing=timing(1.7, struck="shared")), record("torch-dp", timing=timing(1.7))
    assert not compare(run_of(struck, fine), dataclasses.replace(run_of(fine), directory=Path("b"))).failures()


def test_a_run_against_itself_says_so() -> None:
    run = run_of(record(timing=timing(1.7)))
    assert "A and B are one and the same run" in compare(run, run).lines()
    assert "one and the same run" in compare(run, run).failures()[0]


def test_a_case_that_neither_run_timed_is_not_complained_about() -> None:
    assert not compare(run_of(record()), run_of(record(), skipped("x", "y", 2, "no"))).refused


def test_a_case_that_only_one_run_holds_is_a_change_of_verdict() -> None:
    found = compare(run_of(record()), run_of(record(), record("torch-threads")))
    assert found.verdicts == (("digits-mlp/torch-threads/2/cpu", "not in this run", "equivalent"),)
