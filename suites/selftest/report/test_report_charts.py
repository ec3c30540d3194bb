"""Charts: well-formed pictures of any figures, however broken."""

from __future__ import annotations

import math
from collections.abc import Callable
from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.sample_records import interval, record, timing
from harness.record import RungSummary
from harness.report import charts, svg
from harness.timings import Interval

NUMBERS = st.floats()


def parsed(picture: str) -> ET.Element:
    assert "nan" not in picture.lower().replace("not a number", "")
    return ET.fromstring(picture)


def coordinates(picture: ET.Element, name: str) -> list[float]:
    return [float(item.attrib[name].rstrip("%")) for item in picture.iter() if name in item.attrib]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=8))
def test_a_curve_of_any_figures_stays_inside_its_frame(points: list[tuple[float, float, float]]) -> None:
    picture = parsed(charts.curve(points))
    assert all(0 <= y <= 222 for y in coordinates(picture, "cy"))
    assert len(picture.findall("circle")) == len(points), "every step is marked, also one that is not a number"


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8))
def test_losses_of_any_size_stay_inside_their_frame(pairs: list[tuple[float, float]]) -> None:
    picture = parsed(charts.losses(pairs))
    assert all(0 <= y <= 222 for y in coordinates(picture, "cy"))
    assert len(picture.findall("circle")) == len(pairs)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.text("0<&é", max_size=5), st.lists(NUMBERS, max_size=6)), max_size=4))
def test_epochs_of_any_length_stay_inside_their_frame(rows: list[tuple[str, list[float]]]) -> None:
    picture = parsed(charts.epochs([(label, values, "serial") for label, values in rows]))
    assert all(150 <= x <= 448 for x in coordinates(picture, "cx"))


@settings(deadline=None, max_examples=100)
@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_bars_and_whiskers_of_any_figures_stay_inside_their_line(a: float, b: float, c: float, d: float) -> None:
    figure = Interval(median=a, low=b, high=c)
    shown = [timing(1.0, speedup=figure), timing(1.5)]
    scale = charts.speedup_scale(shown, 2)
    parts = [
        charts.whisker(figure, scale, world_size=2, band=figure, kind="main"),
        charts.speedup_axis(scale, 2),
        charts.bar(a, d, kind="serial"),
        charts.closest_call(rung(a), 100.0, 5.0),
    ]
    for part in parts:
        picture = parsed(part)
        for name in ("cx", "x1", "x2", "width"):
            assert all(0 <= x <= 100 for x in coordinates(picture, name)), part


def rung(ratio: float) -> RungSummary:
    return RungSummary(rung="loss", ratio=ratio, step=0, rank=0, tensor="<loss>", num_compared=1)


@pytest.mark.parametrize(("ratio", "kind"), [(1.0, "within"), (100.0, "within"), (101.0, "over"), (math.nan, "over")])
def test_a_rung_over_its_threshold_looks_different(ratio: float, kind: str) -> None:
    rect = parsed(charts.closest_call(rung(ratio), 100.0, 1e3)).find("rect")
    assert rect is not None
    assert rect.attrib["class"] == kind


def test_a_longer_time_has_a_longer_bar() -> None:
    short, long = (coordinates(parsed(charts.bar(value, 2.0, kind="serial")), "width")[-1] for value in (1.0, 2.0))
    assert (short, long) == (50.0, 100.0)


def test_a_speed_up_lies_where_its_scale_says() -> None:
    scale = charts.speedup_scale([timing(1.7)], 2)
    picture = parsed(charts.whisker(interval(1.0), scale, world_size=2, band=None, kind="main"))
    (dot,) = coordinates(picture, "cx")
    assert dot == pytest.approx(scale(1.0), abs=0.01)
    assert [line.attrib["class"] for line in picture.findall("line")][:2] == ["one", "ideal"]


def test_one_wide_interval_is_cut_and_marked_rather_than_squeezing_the_others() -> None:
    wide = Interval(median=1.0, low=0.5, high=60.0)
    scale = charts.speedup_scale([timing(1.7, speedup=wide)], 2)
    assert scale.high < 3
    assert 'class="arrow' in charts.whisker(wide, scale, world_size=2, band=None, kind="main")
    assert 'class="arrow' not in charts.whisker(interval(1.0), scale, world_size=2, band=None, kind="main")


def test_markup_in_a_label_is_text() -> None:
    picture = charts.epochs([("<script>alert(1)</script>", [1.0], "serial")])
    assert "<script>" not in picture
    assert "&lt;script&gt;" in picture


@pytest.mark.parametrize("low_high", [(0.0, 1.0), (1e-9, 3e-9), (-5.0, 17.0), (1e12, 1.5e12), (2.0, 2.0)])
def test_ticks_are_round_and_inside(low_high: tuple[float, float]) -> None:
    low, high = low_high
    marks = svg.ticks(low, high)
    assert 1 <= len(marks) <= 9
    assert all(low - 1e-9 * abs(low) <= mark <= high * (1 + 1e-9) for mark in marks)


@given(st.floats(1e-150, 1e150), st.floats(1e-150, 1e150))
def test_decades_are_powers_of_ten_inside_the_range(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    marks = svg.decades(low, high)
    assert len(marks) <= 6
    assert all(low * 0.999 <= mark <= high * 1.001 for mark in marks)


def test_a_scale_holds_what_lies_outside_at_its_ends() -> None:
    scale: Callable[[float], float] = svg.Scale(low=1.0, high=100.0, log=True)
    assert [scale(value) for value in (0.0, -3.0, 1.0, 10.0, 100.0, 1e9, math.inf)] == [0, 0, 0, 50, 100, 100, 100]


def test_the_sample_has_figures_to_draw() -> None:
    assert record().evidence is not None


def test_a_baseline_slow_beyond_all_others_does_not_squeeze_them() -> None:
    one = timing(1.7)
    slow = msgspec.structs.replace(one.baselines[1], speedup=interval(40.0))
    scale = charts.speedup_scale([msgspec.structs.replace(one, baselines=(one.baselines[0], slow))], 2)
    assert scale.high < 5
    assert 'class="arrow' in charts.whisker(interval(40.0), scale, world_size=2, band=None, kind="other")
