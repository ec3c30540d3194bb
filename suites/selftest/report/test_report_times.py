"""The times of a run: grouped by workload and scaling, each over the serial runs it is held against."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fixtures.sample_records import RUN, interval, record, sample, timing
from harness.record import Record
from harness.report import words
from harness.report.html import payload
from harness.report.sections import times
from harness.report.sections.figures import row
from harness.report.sections.times import Group, Timed
from harness.report.summary import summarise
from harness.store import Run, RunInfo


def groups(*records: Record) -> tuple[Group, ...]:
    summary = summarise(Run(directory=Path(RUN), info=RunInfo(id=RUN), records=records))
    lines = {id(case): number for number, case in enumerate((*summary.cases, *summary.faults))}
    return times.groups(summary, lines)


def only(case: Record) -> Timed:
    ((found,),) = (group.cases for group in groups(case))
    return found


def test_cases_are_grouped_by_workload_and_scaling_is_never_mixed() -> None:
    weak = timing(1.9, scaling="weak")
    found = groups(
        record(timing=timing(1.7)),
        record("torch-threads", timing=timing(1.2)),
        record("torch-ddp", "digits-cnn", timing=timing(1.8)),
        record("horovod-torch", timing=weak),
        record("tf-mirrored"),
    )
    assert {group.title: [case.strategy for case in group.cases] for group in found} == {
        "digits-cnn": ["torch-ddp"],
        "digits-mlp": ["torch-ddp", "torch-threads"],
        "digits-mlp, weak scaling": ["horovod-torch"],
    }


def test_a_time_stands_beside_the_speed_up_over_each_serial_run() -> None:
    timed = timing(1.72)
    found = only(record(timing=timed))
    assert found.seconds == words.seconds(words.epoch_s(timed))
    assert (found.samples, found.efficiency, found.struck) == ("3,505", "86 % [83, 89]", "")
    assert [over.name for over in found.over] == ["one share", "whole machine", "per-rank batch"]
    assert found.over[0].speedup == row((1.72 * 0.965, 1.72, 1.72 * 1.035))
    assert found.over[0].figure == "1.72x [1.66, 1.78]"
    assert found.over[1].detail == "2 threads, batch 64"
    assert found.aa == [0.975, 1.027]


def test_serial_against_serial_is_no_baseline() -> None:
    found = groups(record(timing=timing(1.72)))
    assert "again" in {run.name for run in timing(1.72).baselines}
    assert "again" not in {over.name for group in found for case in group.cases for over in case.over}
    assert "again" not in dict(times.baselines(found))


@pytest.mark.parametrize(
    "case",
    [
        record(conclusion="different", timing=timing(1.72)),
        record(conclusion="inconclusive", timing=timing(1.72)),
        record(timing=timing(1.72, struck="ranks shared cores")),
    ],
)
def test_a_struck_case_keeps_its_times_and_shows_no_speed_up(case: Record) -> None:
    found = only(case)
    assert found.struck == words.struck(case)
    assert found.seconds
    assert (found.samples, found.efficiency) == ("", "")
    assert {(tuple(over.speedup), over.figure) for over in found.over} == {((), "")}
    assert all(over.seconds for over in found.over), "how long serial took is no speed-up"


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"efficiency_over": "per-rank batch"}, "efficiency over the per-rank batch"),
        ({"oversubscribed": True, "efficiency": None}, "cores shared: no efficiency"),
        ({"claim": "inconclusive"}, "not told apart from none"),
        ({"warnings": ("drifts", "few epochs")}, "2 warnings"),
    ],
)
def test_what_takes_away_from_a_time_is_noted_beside_it(changes: dict[str, Any], note: str) -> None:
    assert only(record(timing=timing(1.7, **changes))).notes == (note,)
    assert only(record(timing=timing(1.7))).notes == ()


def test_the_baselines_to_choose_from_are_those_that_were_timed_in_the_order_of_the_report() -> None:
    one = timing(1.7)
    few = msgspec.structs.replace(one, baselines=(one.baselines[2], one.baselines[0]))
    found = groups(record(timing=few))
    assert times.baselines(found) == [(name, words.BASELINE[name]) for name in ("one share", "per-rank batch")]
    assert times.baselines(groups(record())) == []


def test_each_time_knows_its_line_in_the_list_of_cases() -> None:
    summary = summarise(Run(directory=Path(RUN), info=RunInfo(id=RUN), records=tuple(sample())))
    listed = payload.ordered((*summary.cases, *summary.faults))
    found = times.groups(summary, {id(case): number for number, case in enumerate(listed)})
    told = [(group.title, case) for group in found for case in group.cases]
    assert len(told) == sum(case.timing is not None for case in summary.cases)
    for title, case in told:
        one = listed[case.line]
        assert (one.workload, one.strategy, one.world_size) == (title, case.strategy, case.ranks)


def test_injected_faults_are_not_timed_against_others() -> None:
    assert groups(record(conclusion="different", fault="sum-instead-of-mean", timing=timing(1.7))) == ()


def test_times_that_are_no_numbers_are_named_and_become_null() -> None:
    timed = timing(1.7, epoch_wall_s=(math.nan, 1.0), samples_per_s=math.nan, aa=interval(math.nan))
    found = only(record(timing=timed))
    assert (found.seconds, found.samples) == ("not a number", "")
    assert found.struck == "no speed-up: what was recorded as a time is none"
    (packed,) = payload.unpack(f'<script type="application/gzip" id="blob-x">{payload.pack([found])}</script>')["x"]
    assert packed["aa"] == [None, None]
