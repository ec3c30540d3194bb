"""A curve holds only what belongs together, and tells what it cannot hold."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fixtures.sample_records import interval, scaled, skipped, timing
from harness.measure.curves import curves
from harness.measure.laws import amdahl, usl
from harness.measure.limits import above_linear, cause
from harness.record import Record
from harness.timings import Breakdown, Loss, Part, Share, Timing

SIZES = (2, 4, 8, 16)


def share(num_cores: int) -> Share:
    return Share(num_cores=num_cores, num_threads=num_cores, device="cpu", memory_bytes=2**33)


def ideal(world_size: int, **changes: Any) -> Record:
    return scaled(world_size, amdahl(world_size, 0.06), **changes)


def test_sizes_of_one_strategy_make_a_curve_with_its_laws() -> None:
    (curve,) = curves([ideal(size) for size in reversed(SIZES)])
    assert [point.num_ranks for point in curve.points] == list(SIZES)
    assert [fit.law for fit in curve.fits] == ["Amdahl", "USL"]
    fraction = curve.fits[0].parameters["serial fraction"]
    assert fraction.low <= 0.06 <= fraction.high
    for point in curve.points:
        assert point.efficiency.median == point.speedup.median / point.num_ranks
        assert point.fraction.low <= point.fraction.median <= point.fraction.high


def test_what_is_scaled_in_another_way_makes_another_curve() -> None:
    other: list[dict[str, Any]] = [
        {"timing": {"scaling": "weak"}},
        {"timing": {"share": share(2)}},
        {"strategy": "torch-fsdp"},
        {"device": "cuda"},
        {"workload_digest": "ffffffffffff"},
    ]
    for changes in other:
        found = curves([ideal(2), ideal(4, **changes)])
        assert [len(curve.points) for curve in found] == [1, 1], changes


def test_weak_scaling_is_described_by_gustafson() -> None:
    (curve,) = curves([scaled(size, 1 + 0.9 * (size - 1), timing={"scaling": "weak"}) for size in SIZES])
    assert [fit.law for fit in curve.fits] == ["Gustafson"]
    fraction = curve.fits[0].parameters["serial fraction"]
    assert fraction.low <= 0.1 <= fraction.high
    assert all(point.fraction.median == pytest.approx(0.1, abs=0.06) for point in curve.points)
    assert curve.growth is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"timing": {"oversubscribed": True}}, "cost of sharing"),
        ({"timing": {"struck": "its accuracy departs"}}, "its accuracy departs"),
        ({"conclusion": "different"}, "the case is different"),
        ({"timing": {"speedup": None}}, "no speed-up was measured"),
    ],
)
def test_what_must_not_be_read_as_a_speed_up_is_no_point(changes: dict[str, Any], why: str) -> None:
    (curve,) = curves([ideal(2), ideal(4, **changes)])
    assert [point.num_ranks for point in curve.points] == [2]
    assert [size.num_ranks for size in curve.left_out] == [4]
    assert why in curve.left_out[0].why


def test_faults_untimed_cases_and_single_ranks_make_no_curve() -> None:
    assert curves([ideal(2, fault="sum-instead-of-mean"), skipped("torch-ddp", "mnist-cnn", 2, "no GPU")]) == ()
    assert curves([msgspec.structs.replace(ideal(2), world_size=1)]) == ()


def test_the_largest_size_is_foretold_from_the_others() -> None:
    (curve,) = curves([scaled(size, usl(size, 0.04, 0.002)) for size in SIZES])
    found = curve.held_out
    assert found is not None
    assert (found.num_ranks, found.sizes, found.law) == (16, (2, 4, 8), "USL")
    assert found.inside
    assert found.predicted.low <= found.measured.median <= found.predicted.high


def test_a_size_that_breaks_the_law_is_found_when_it_is_held_out() -> None:
    (curve,) = curves([*(ideal(size) for size in (2, 4, 8)), scaled(16, 3.0)])
    assert curve.held_out is not None
    assert not curve.held_out.inside
    assert curve.held_out.error > 0.5


def test_one_size_has_a_law_and_nothing_to_hold_out() -> None:
    (curve,) = curves([ideal(2)])
    assert [fit.law for fit in curve.fits] == ["Amdahl"]
    assert (curve.held_out, curve.growth) == (None, None)


def test_above_linear_the_ranks_are_held_against_serial_at_their_batch() -> None:
    (curve,) = curves([scaled(2, 2.14, small=0.8)])
    assert curve.baseline == "per-rank batch"
    assert curve.points[0].speedup.median == pytest.approx(2.14 * 0.8, rel=0.05)
    assert curve.fits
    assert "because a rank's smaller batch is cheaper" in curve.above_linear[0]


def test_above_linear_over_every_baseline_no_law_is_fitted_and_the_baseline_doubted() -> None:
    (curve,) = curves([scaled(2, 3.0, small=0.9)])
    assert curve.fits == ()
    assert curve.no_law == "above linear on 2 ranks, which no law of losses describes"
    assert "slow baseline" in curve.above_linear[0]


def test_a_strategy_slower_than_serial_has_no_serial_fraction() -> None:
    (curve,) = curves([scaled(2, 0.6), scaled(4, 0.5)])
    assert curve.fits == ()
    assert curve.no_law == "on 2 and 4 ranks it is slower than serial training, which no share of serial work explains"


def test_a_single_round_is_a_point_without_a_law() -> None:
    (curve,) = curves([scaled(2, 1.7, num_rounds=1)])
    assert len(curve.points) == 1
    assert "expected at least 2 positive speed-ups" in curve.no_law


def parts(**seconds: float) -> dict[Part, float]:
    return seconds  # type: ignore[return-value]


def timed(world_size: int, rank: dict[Part, float], alone: dict[Part, float] | None = None) -> Timing:
    shown = Breakdown(ranks=(rank,) * world_size, alone=alone or {}, num_steps=10, accounted=1.0)
    return timing(1.5, world_size, breakdown=shown)


def test_the_part_that_grows_most_beyond_working_alone_is_the_cause() -> None:
    alone = parts(data=0.2, forward=0.4, backward=0.6)
    slow_data = parts(data=0.2, forward=0.2, backward=0.3, communication=0.05)
    assert (
        cause({2: timed(2, slow_data, alone)})
        == "67 % of what 2 ranks take beyond as many trainings alone is data loading"
    )


def test_without_a_run_alone_the_fewest_ranks_are_what_parts_grow_from() -> None:
    few, many = parts(backward=0.5, communication=0.1), parts(backward=0.25, communication=0.15)
    told = cause({2: timed(2, few), 4: timed(4, many)})
    assert told == "100 % of what a sample costs more on 4 than on 2 ranks is communication"


def test_a_single_size_tells_only_how_its_ranks_wait() -> None:
    told = cause({2: timed(2, parts(data=0.9, communication=0.3, idle=0.1))})
    assert told == "75 % of what 2 ranks spend on each other is communication"


def test_the_largest_loss_of_the_largest_size_is_the_cause() -> None:
    losses = (
        Loss(name="machine", factor=interval(0.7), words=""),
        Loss(name="ranks", factor=interval(0.9, 0.02), words=""),
    )
    told = cause({2: timing(1.2), 4: timing(2.4, 4, losses=losses)})
    assert told is not None
    assert told.startswith("on 4 ranks most is lost to sharing the machine")
    assert cause({2: timing(1.2)}) is None


def test_memory_that_serial_fills_explains_a_speed_up_above_linear() -> None:
    steep = timing(3.0, share=share(1), speedup=interval(3.0, 0.01))
    told = above_linear(steep, 2, serial_memory_bytes=2**33)
    assert told is not None
    assert "fills the machine's memory" in told
    assert above_linear(timing(1.9), 2) is None
