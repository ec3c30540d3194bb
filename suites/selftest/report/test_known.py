"""What the report says of the oracle itself."""

from __future__ import annotations

from harness.report.sections import known
from harness.report.sections.known import Curve, Detection, Known

CURVE = Curve(
    precision="float64",
    factor=100.0,
    num_clean=4,
    num_bugs=2,
    area=1.0,
    thresholds=(1.0, 10.0, 100.0),
    clean=(0.5, 0.0, 0.0),
    bugs=(1.0, 1.0, 0.5),
)
FOUND = Detection(
    num_pairs=10,
    num_caught=9,
    num_faults=3,
    num_strategies=1,
    num_judged=8,
    num_causes=7,
    num_misled=1,
)


def test_what_is_shipped_can_be_read_and_holds_no_false_alarm() -> None:
    shipped = known.read()
    assert shipped is not None
    assert shipped.num_clean > 1000
    assert shipped.num_alarms == 0
    assert [curve.precision for curve in shipped.curves] == ["float64", "float32", "bf16", "fp16"]


def test_misses_and_wrong_causes_are_told_beside_what_was_caught() -> None:
    told = known.sentences(Known(num_clean=1000, num_alarms=2, curves=(CURVE,), detection=FOUND))
    assert told[0] == "Of 1,000 sound cases, in all precisions, 2 were called different."
    assert told[1] == (
        "9 of 10 pairs of an injected bug and a strategy were caught (3 bugs, 1 strategy). Of the 8 in which no "
        "rank died, the cause was named rightly in 7; in 1 a wrong one was called certain."
    )


def test_what_the_charts_count_beside_the_sentences_is_told() -> None:
    more = Known(num_clean=3, num_alarms=0, curves=(CURVE,))
    assert "these sound cases and 1 more, 4 in all" in known.sentences(more)[-1]
    assert "another set of wrong runs, 2 in each precision" in known.sentences(more)[-1]
    shipped = known.read()
    assert shipped is not None
    assert f"{sum(curve.num_clean for curve in shipped.curves):,} in all" in known.sentences(shipped)[-1]
    assert len(known.sentences(Known(num_clean=3, num_alarms=0, curves=()))) == 1, "negative control"


def test_a_roc_goes_from_nothing_to_everything_and_marks_the_threshold_in_use() -> None:
    found = known.roc(CURVE)
    assert list(zip(found.false_alarms, found.detected, strict=True)) == [
        (0.0, 0.0),
        (0.0, 0.5),
        (0.0, 1.0),
        (0.5, 1.0),
        (1.0, 1.0),
    ]
    assert found.thresholds == (None, 100.0, 10.0, 1.0, None)
    assert found.at == 1
    assert found.told == "In float64, at K = 100: 50.0 % of 2 wrong runs detected, 0.00 % of 4 clean runs beyond it."


def test_every_shipped_roc_rises() -> None:
    shipped = known.read()
    assert shipped is not None
    for curve in shipped.curves:
        found = known.roc(curve)
        assert list(found.false_alarms) == sorted(found.false_alarms)
        assert list(found.detected) == sorted(found.detected)
        assert found.thresholds[found.at] == curve.factor
