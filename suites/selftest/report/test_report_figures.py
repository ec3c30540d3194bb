"""The figures of a case as data: what was recorded, rounded, in the order it is told, and never more than that."""

from __future__ import annotations

import math
import re
import statistics
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_page import numbers, page_of

import harness.report
from fixtures.sample_records import heat, hostile, interval, record, sample, timing, verdict
from harness.record import Record, Statistics
from harness.report import words
from harness.report.html import payload
from harness.report.sections.figures import Figure, figures, rounded, row
from harness.timings import Breakdown, Loss, Timing

SCRIPT = (Path(harness.report.__file__).parent / "html/script/case_figures.js").read_text()
LOSSES = (
    Loss(name="batch", factor=interval(1.05), words="5.0% gained: a smaller batch"),
    Loss(name="machine", factor=interval(0.9), words="10.0% lost: side by side"),
)
PARTS = Breakdown(
    ranks=({"forward": 0.1, "backward": 0.2}, {"forward": 0.123456, "backward": 0.19}),
    alone={"forward": 0.1},
    num_steps=12,
    accounted=0.998,
)
SEEDS = Statistics(
    name="held-out loss",
    seeds=(3, 5, 8),
    serial=(0.5, 0.6, 0.7),
    parallel=(0.51, 0.58, 0.7),
    mean=-0.0033333333,
    low=-0.03,
    high=0.02,
    margin=0.05,
    needed=12,
)


def of_kind(case: Record, kind: str) -> list[Figure]:
    return [figure for figure in figures(case) if figure.kind == kind]


def only(case: Record, kind: str) -> Figure:
    (found,) = of_kind(case, kind)
    return found


def kinds(case: Record) -> list[str]:
    return [figure.kind for figure in figures(case)]


def explained() -> Record:
    """A case with a figure of every kind."""
    return record(evidence=verdict(statistics=(SEEDS,)), timing=timing(1.7, losses=LOSSES, breakdown=PARTS))


def test_every_figure_brings_what_its_function_in_the_page_reads() -> None:
    functions = SCRIPT.partition("const FIGURES = {")[2].partition("\n};")[0]
    read = {
        kind: {name.partition(":")[0].strip() for name in re.sub(r"\[[^\]]*\]", "", arguments).split(",")}
        for kind, arguments in re.findall(r"^  (\w+)\(\{ (.*) \}\) \{$", functions, re.MULTILINE)
    }
    assert {figure.kind: set(figure.data) for figure in figures(explained())} == read


def test_figures_of_the_verdict_come_before_those_of_the_timing() -> None:
    assert kinds(explained()) == [
        *("deviation", "loss", "heat", "heat", "seeds"),
        *("losses", "parts", "epochs", "ratios", "skew"),
    ]


def test_a_case_has_only_the_figures_of_what_was_recorded() -> None:
    bare = verdict(curve=(), losses=(), heat=None)
    assert kinds(record(evidence=bare)) == []
    assert kinds(record(evidence=bare, timing=timing(1.7, speedup=None, epoch_s=((0.4,),)))) == ["epochs"]


def test_divergence_and_losses_are_shown_step_by_step() -> None:
    judged = verdict(curve=((1.23456789e-16, 2e-17, math.inf), (0.0, 0.0, 1.0)), losses=((2.345678, 2.3456),))
    case = record(evidence=judged)
    assert only(case, "deviation").data == {"points": [[1.23e-16, 2e-17, math.inf], [0.0, 0.0, 1.0]]}
    assert only(case, "loss").data == {"points": [[2.346, 2.346]], "reference": "serial"}
    named = record(evidence=verdict(reference="per-shard-batchnorm"))
    assert only(named, "loss").data["reference"] == "per-shard-batchnorm"


def test_a_heat_map_holds_a_row_a_tensor_and_says_what_was_left_out() -> None:
    judged = verdict()
    shown = heat(judged.rungs)
    assert shown is not None
    tensors, steps = of_kind(record(evidence=verdict(heat=msgspec.structs.replace(shown, num_left_out=3))), "heat")
    assert tensors.data["tensors"] == steps.data["tensors"] == shown.tensors
    assert tensors.data["columns"] == list(shown.rungs)
    assert tensors.data["values"] == [row(values, 2) for values in zip(*shown.rungs.values(), strict=True)]
    assert steps.data["columns"][0] == "step 0"
    assert [len(values) for values in steps.data["values"]] == [len(shown.steps)] * len(shown.tensors)
    assert tensors.data["allowed"] == judged.factor
    assert "of 100 allowed. 3 tensors that came less close not shown." in tensors.caption
    assert shown.by_step_rung in steps.title


def test_in_brief_a_case_does_without_the_figures_of_single_tensors() -> None:
    brief = [figure.kind for figure in figures(explained(), brief=True)]
    assert brief == [kind for kind in kinds(explained()) if kind != "heat"]


def test_paired_seeds_are_shown_as_differences_with_interval_and_margin() -> None:
    found = only(record(evidence=verdict(statistics=(SEEDS,))), "seeds")
    assert found.title == "Held-out loss"
    assert found.data == {
        "seeds": (3, 5, 8),
        "differences": pytest.approx([0.01, -0.02, 0.0]),
        "interval": [-0.03, -0.003333, 0.02],
        "margin": 0.05,
    }
    assert (
        "Mean with its 90 % interval: -0.00333 [-0.0300, 0.0200], to lie within ±0.0500. 3 seeds; 12" in found.caption
    )


def test_losses_multiply_from_the_number_of_ranks() -> None:
    found = only(record(timing=timing(1.8, losses=LOSSES), world_size=4), "losses")
    assert found.data == {"ideal": 4, "factors": [["batch", 1.05], ["machine", 0.9]]}
    assert found.caption == "Batch: 5.0% gained: a smaller batch. Machine: 10.0% lost: side by side."


def test_the_time_of_every_rank_is_shown_in_its_parts_with_a_rank_alone_last() -> None:
    found = only(record(timing=timing(1.8, breakdown=PARTS)), "parts")
    assert found.data["rows"] == [
        ["rank 0", {"forward": 0.1, "backward": 0.2}],
        ["rank 1", {"forward": 0.123, "backward": 0.19}],
        ["alone", {"forward": 0.1}],
    ]
    assert "100 % of it is accounted for" in found.caption


def test_samples_are_shown_as_they_came_with_their_warm_up() -> None:
    timed = timing(1.7)
    found = only(record(timing=timed), "epochs")
    (label, kind, values, before), *serial = found.data["runs"]
    assert (label, kind, values, before) == ("parallel", "parallel", row(timed.epoch_wall_s), row(timed.warmup_s))
    assert [run[0] for run in serial] == [words.baseline(run) for run in timed.baselines], "the A/A runs too"
    assert {run[1] for run in serial} == {"serial"}
    assert "Warm-up of the parallel run, not counted: 984 ms, 451 ms." in found.caption
    assert "not counted: none." in only(record(timing=timing(1.7, warmup_s=())), "epochs").caption


def test_the_ratios_of_the_rounds_have_the_speed_up_as_their_median() -> None:
    timed = timing(1.7)
    found = only(record(timing=timed), "ratios")
    share = timed.baseline("one share")
    assert share is not None
    assert found.data["ratios"] == row(a / b for a, b in zip(share.epoch_s, timed.epoch_wall_s, strict=True))
    assert statistics.median(found.data["ratios"]) == pytest.approx(1.7, rel=0.05)
    assert found.data["interval"] == row((1.7 * 0.965, 1.7, 1.7 * 1.035))
    assert found.data["aa"] == [0.975, 1.027]
    assert found.data["ideal"] == 2
    assert "1.70x [1.64, 1.76]. Shade: A/A 1.00x" in found.caption
    without = only(record(timing=timing(1.7, aa=None)), "ratios")
    assert without.data["aa"] is None
    assert "Shade" not in without.caption


@pytest.mark.parametrize("changes", [{"conclusion": "different"}, {"conclusion": "inconclusive"}, {}])
def test_a_struck_case_keeps_its_times_and_loses_its_speed_ups(changes: dict[str, Any]) -> None:
    timed = timing(1.8, losses=LOSSES, breakdown=PARTS, struck=None if changes else "shared cores")
    shown = kinds(record(timing=timed, **changes))
    assert not {"ratios", "losses"} & set(shown)
    assert {"parts", "epochs", "skew"} <= set(shown)
    # The negative control: the same case, not struck.
    assert {"ratios", "losses"} <= set(kinds(record(timing=msgspec.structs.replace(timed, struck=None))))


def test_skew_is_each_ranks_own_time_as_a_share_of_the_epochs() -> None:
    timed = timing(1.7, epoch_s=((0.4, 0.2), (0.38, 0.19)), epoch_wall_s=(0.4, 0.2))
    found = only(record(timing=timed), "skew")
    assert found.data == {"ranks": [[1.0, 1.0], [0.95, 0.95]], "names": ["rank 0", "rank 1"]}
    assert "The medians of the ranks differ by 5.0 %." in found.caption
    assert "skew" not in kinds(record(timing=timing(1.7, epoch_s=((0.4, 0.2),)))), "one rank has nothing to differ from"


def test_of_very_many_ranks_the_slowest_are_shown() -> None:
    slow = {rank: 0.4 - 0.001 * rank for rank in range(20, 40)}
    own_s = tuple((slow.get(rank, 0.3),) * 2 for rank in range(40))
    parts = msgspec.structs.replace(PARTS, ranks=tuple({"forward": times[0], "idle": 0.4} for times in own_s))
    case = record(timing=timing(1.7, epoch_s=own_s, epoch_wall_s=(0.4, 0.4), breakdown=parts), world_size=40)
    skew, bars = only(case, "skew"), only(case, "parts")
    assert skew.data["names"] == [f"rank {rank}" for rank in range(20, 36)]
    assert skew.data["ranks"][0] == [0.95, 0.95]
    assert [row[0] for row in bars.data["rows"]] == [*skew.data["names"], "alone"]
    for figure in (skew, bars):
        assert figure.caption.endswith(" Shown are the 16 slowest of 40 ranks.")
    assert "medians of the ranks differ by 20.0 %" in skew.caption, "of all of them"


@pytest.mark.parametrize("bad", [0.0, -1.0, 1e308, math.nan])
def test_of_times_that_are_none_only_the_samples_are_drawn(bad: float) -> None:
    timed = timing(1.8, losses=LOSSES, breakdown=PARTS, epoch_wall_s=(1.0, bad))
    assert kinds(record(timing=timed))[-1] == "epochs"
    assert not {"losses", "parts", "ratios", "skew"} & set(kinds(record(timing=timed)))


def test_every_number_of_a_page_has_four_digits_or_is_null(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample() + hostile())
    found = numbers([figure["data"] for detail in page.details for figure in detail["figures"]])
    assert len(found) > 1000
    assert all(float(f"{value:.4g}") == value for value in found)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(), st.floats(), st.floats()), min_size=1, max_size=5),
    st.lists(st.lists(st.floats(), max_size=4).map(tuple), max_size=3).map(tuple),
    st.lists(st.floats(), max_size=4).map(tuple),
)
def test_figures_of_any_numbers_are_made_and_packed(
    curve: list[tuple[float, float, float]], ranks: tuple[tuple[float, ...], ...], wall: tuple[float, ...]
) -> None:
    timed: Timing = timing(1.7, epoch_s=ranks, epoch_wall_s=wall)
    case = record(evidence=verdict(curve=tuple(curve), losses=tuple(pair[:2] for pair in curve)), timing=timed)
    found = figures(case)
    assert payload.pack(found)
    assert len(found[0].data["points"]) == len(curve), "also what is not a number has its step"


@given(st.floats(allow_nan=False))
def test_rounding_keeps_a_number_within_half_a_thousandth(value: float) -> None:
    found = rounded(value)
    assert found == value or math.isinf(found) or abs(found - value) <= 5.1e-4 * abs(value)  # type: ignore[arg-type,operator]
    assert rounded(None) is None
