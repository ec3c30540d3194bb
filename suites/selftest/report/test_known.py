"""What the report says of the oracle itself."""

from __future__ import annotations

from harness.report import known
from harness.report.known import Curve, Detection, Known

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
    by_strategy={"torch-ddp": (9, 10)},
)


def test_what_is_shipped_can_be_read_and_holds_no_false_alarm() -> None:
    shipped = known.read()
    assert shipped is not None
    assert shipped.num_clean > 1000
    assert shipped.num_alarms == 0
    assert [curve.precision for curve in shipped.curves] == ["float64", "float32", "bf16", "fp16"]


def test_misses_and_wrong_causes_are_told_beside_what_was_caught() -> None:
    told = known.sentences(Known(num_clean=1000, num_alarms=2, curves=(CURVE,), detection=FOUND))
    assert told[0] == "Of 1,000 clean cases 2 were called different."
    assert told[1] == (
        "9 of 10 pairs of an injected bug and a strategy were caught (3 bugs, 1 strategy); the cause was named rightly "
        "in 7 of 8, and wrongly for certain in 1."
    )


def test_a_chart_marks_the_threshold_in_use() -> None:
    drawn = known.chart(CURVE)
    assert "K = 100" in drawn
    assert "shares of clean and wrong runs beyond a threshold" in drawn
