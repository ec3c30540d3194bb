"""The published curves: each with a source, each predicted from its smallest size alone, and the errors kept to."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import get_args

import msgspec
import pytest

import harness
from harness.errors import DataError
from harness.predict import hardware, published
from harness.predict.hardware import Place
from harness.predict.published import Compared, Curve, Document, Point, Printed, Source

FOLDER = Path(harness.__file__).parents[1] / "fixtures" / "published"

LONE_POINT = """
{"source": {"title": "t", "where": "w", "read": "directly"},
 "curves": [{"name": "c", "gpu": "v100", "ranks_per_node": 8, "scheme": "all-reduce",
             "points": [{"ranks": 8, "value": 1}]}]}
"""


@functools.cache
def every() -> list[Compared]:
    return [one for document in published.read(FOLDER) for curve in document.curves for one in published.compare(curve)]


def test_all_that_is_known_of_machines_models_and_curves_has_a_source() -> None:
    machines, models = hardware.machines(), hardware.known_models()
    sources = [machines.achieved.source, machines.utilisation.source]
    sources += [one.source for one in machines.latency] + [one.source for one in machines.reached]
    sources += [one.source for one in machines.gpus]
    sources += [one.source for one in models.models] + [one.source for one in models.measured]
    sources += [document.source.where for document in published.read(FOLDER)]
    sources += [one.one_rank.source for document in published.read(FOLDER) for one in document.curves if one.one_rank]
    assert all(len(source) > 10 for source in sources)


def test_the_median_error_is_within_its_goal_and_below_that_of_ideal_scaling() -> None:
    assert len(every()) > 200
    assert published.median_error(every()) <= 0.15
    hard = [one for one in every() if one.efficiency < 0.9]
    assert published.median_error(hard) < 0.7 * published.median_linear_error(hard)


def test_the_range_that_predictions_show_is_what_these_curves_give() -> None:
    """Kept in the machines' data, so that predicting needs no curves; written down again when curves are added."""
    for place in get_args(Place):
        known = hardware.reached(place)
        assert (known.low, known.high) == pytest.approx(published.reached(every(), place), abs=5e-4)


def test_the_documentation_tells_these_errors() -> None:
    groups = {
        "all": every(),
        "published below 90 % of ideal": [one for one in every() if one.efficiency < 0.9],
        "within a node": [one for one in every() if one.place == "one node"],
        "on several nodes": [one for one in every() if one.place == "several nodes"],
        "pipelines": [one for one in every() if one.place == "pipeline"],
    }
    told = (FOLDER.parents[1] / "docs" / "performance.md").read_text()
    for name, points in groups.items():
        errors = [f"{100 * error(points):.1f} %" for error in (published.median_error, published.median_linear_error)]
        assert f"| {name} | {len(points)} | {' | '.join(errors)} |" in told
    num_curves = sum(len(document.curves) for document in published.read(FOLDER))
    assert f"Of {len(every())} points in {num_curves} curves" in told


def curve(**changes: object) -> Curve:
    given = {
        "name": "c",
        "gpu": "v100",
        "ranks_per_node": 8,
        "net": "100gbps",
        "scheme": "all-reduce",
        "model": "bert-base",
        "batch": 32.0,
        "points": (Point(ranks=1, value=120.0), Point(ranks=32, value=2_900.0)),
        **changes,
    }
    return msgspec.convert(given, Curve)


def test_a_prediction_knows_nothing_of_the_point_it_predicts() -> None:
    one, other = (
        published.compare(curve(points=(Point(ranks=1, value=120.0), Point(ranks=32, value=value))))[0]
        for value in (2_900.0, 1_000.0)
    )
    assert one.predicted == other.predicted
    assert one.error != other.error


def test_a_curve_that_begins_with_many_ranks_is_calibrated_there() -> None:
    """What is predicted from one rank and handed over as published is predicted again."""
    whole = published.compare(curve(points=tuple(Point(ranks=n, value=120.0 * n) for n in (1, 8, 32))))
    later = tuple(Point(ranks=one.ranks, value=one.predicted) for one in whole)
    (again,) = published.compare(curve(points=later))
    assert again.error == pytest.approx(0, abs=1e-6)


def test_seconds_of_a_step_and_samples_a_second_are_one_curve() -> None:
    rates = published.compare(curve(points=(Point(ranks=1, value=320.0), Point(ranks=32, value=6_400.0))))
    steps = (Point(ranks=1, value=0.1), Point(ranks=32, value=0.16))
    assert published.compare(curve(quantity="step seconds", points=steps)) == rates


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "found none"),
        ("{", "expected published curves with a source"),
        ('{"curves": []}', "missing required field `source`"),
        (LONE_POINT, "two points or more"),
    ],
)
def test_a_folder_that_holds_no_curves_is_refused(content: str | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "one.json").write_text(content)
    with pytest.raises(DataError, match=said):
        published.read(tmp_path)


def document(*curves: Curve) -> Document:
    return Document(source=Source(title="t", where="w", read="directly"), curves=curves)


def printed(quantity: str, text: str, **changes: object) -> Printed:
    return msgspec.convert({"quantity": quantity, "printed": text, **changes}, Printed)


def points(value: float, *figures: Printed) -> tuple[Point, ...]:
    return (Point(ranks=1, value=100.0), Point(ranks=4, value=value, printed=figures))


@pytest.mark.parametrize(("text", "agrees"), [("3.5", True), ("3.49", True), ("3.51", True), ("3.46", False)])
def test_a_derived_figure_agrees_within_its_last_digit(text: str, agrees: bool) -> None:
    (one,) = published.recompute(document(curve(points=points(350.0, printed("speed-up", text)))))
    assert (one.value, one.published) == (3.5, float(text))
    assert one.agrees is agrees


def test_what_figures_are_rounded_to_is_allowed_for() -> None:
    """Of 0.157 s a step at 32 images, anything from 203.2 to 204.5 images a second may be left."""
    steps = (Point(ranks=1, value=0.145), Point(ranks=8, value=0.157, printed=(printed("samples/s a rank", "204"),)))
    (one,) = published.recompute(document(curve(quantity="step seconds", points=steps)))
    assert (one.low, one.value, one.high) == pytest.approx((203.17, 203.82, 204.47), abs=0.01)
    assert one.agrees


def test_derived_figures_are_of_a_rank_of_linear_or_over_another_curve() -> None:
    figures = (printed("samples/s a rank", "90"), printed("speed-up", "0.9", over="b"))
    gains = (Point(ranks=1, value=1.0), Point(ranks=4, value=3.6, printed=(printed("efficiency", "90"),)))
    others = curve(name="b", points=points(400.0)), curve(name="c", quantity="speed-up", points=gains)
    whole = document(curve(points=points(360.0, *figures)), *others)
    assert [one.value for one in published.recompute(whole)] == pytest.approx([90.0, 0.9, 90.0])


@pytest.mark.parametrize("over", ["nobody", "b"])
def test_a_figure_over_what_is_not_there_is_refused(over: str) -> None:
    missing = curve(name="b", points=(Point(ranks=1, value=1.0), Point(ranks=2, value=2.0)))
    figure = printed("speed-up", "1", over=over)
    with pytest.raises(DataError, match=over):
        published.recompute(document(curve(points=points(1.0, figure)), missing))
