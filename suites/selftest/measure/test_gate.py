"""The gate: slower, faster, pass or inconclusive; what the machine does is not mistaken for what the code does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from harness.errors import UsageError
from harness.measure import gate
from harness.measure.gate import Judged, Start, judge
from harness.timings import Interval


def starts(seed: int, *, times: float = 1.0, mood: float = 1.0, spread: float = 0.004, num: int = 8) -> list[Start]:
    """Return starts of four steps of about 20 ms, with a yardstick beside each; ``mood`` slows both."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(num):
        level = 0.02 * times * mood * np.exp(draw.normal(0, spread))
        steps = level * np.exp(draw.normal(0, spread, 4))
        units = 0.004 * mood * np.exp(draw.normal(0, spread, 4))
        found.append(Start(step_s=steps.tolist(), yardstick_s=units.tolist()))
    return found


def bare(found: Sequence[Start]) -> list[Start]:
    return [Start(step_s=start.step_s) for start in found]


@pytest.mark.parametrize(("times", "expected"), [(1.0, "pass"), (1.2, "slower"), (0.8, "faster"), (1.052, "slower")])
def test_a_clear_change_is_named(times: float, expected: str) -> None:
    judged = judge(starts(1), starts(2, times=times), floor=0.04)
    assert judged.outcome == expected
    assert judged.ratio.low < times < judged.ratio.high
    assert judged.freedom == 10  # of eight starts a side one is left out at each end


@pytest.mark.parametrize(
    ("low", "median", "high", "expected"),
    [
        (1.06, 1.10, 1.14, "slower"),
        (1.01, 1.06, 1.11, "slower"),
        (1.01, 1.04, 1.07, "inconclusive"),  # surely slower, but perhaps by less than the floor
        (1.01, 1.03, 1.049, "pass"),  # surely slower, and surely by less than the floor
        (0.99, 1.06, 1.13, "inconclusive"),
        (0.97, 1.00, 1.03, "pass"),
        (0.80, 1.00, 1.20, "inconclusive"),
        (0.80, 0.85, 0.90, "faster"),
        (0.94, 0.97, 0.99, "pass"),
    ],
)
def test_slower_needs_an_interval_beyond_1_and_an_effect_beyond_the_floor(
    low: float, median: float, high: float, expected: str
) -> None:
    assert gate.outcome(Interval(median=median, low=low, high=high), 0.05) == expected


def test_a_slow_machine_is_not_slow_code() -> None:
    judged = judge(starts(1), starts(2, mood=1.3), floor=0.05)
    assert judged.outcome == "pass"
    assert judged.mood == pytest.approx(1.3, rel=0.02)
    # The negative control: without the yardstick the same times look slower.
    assert judge(bare(starts(1)), bare(starts(2, mood=1.3)), floor=0.05).outcome == "slower"


def test_slow_code_on_a_fast_machine_is_slower_still() -> None:
    assert judge(starts(1), starts(2, times=1.2, mood=0.8), floor=0.05).outcome == "slower"


def test_equal_sides_are_rarely_called_slower() -> None:
    said = [judge(starts(2 * i), starts(2 * i + 1), floor=0.0).outcome for i in range(400)]
    assert said.count("slower") <= 8  # one in 200 is expected; more than eight would come by chance once in 10,000
    assert [judge(starts(2 * i), starts(2 * i + 1, times=1.03), floor=0.015).outcome for i in range(50)].count(
        "slower"
    ) >= 49


def test_one_disturbed_start_does_not_hide_a_slowdown() -> None:
    disturbed = starts(2, times=1.1)
    disturbed[3] = Start(step_s=[0.08] * 4, yardstick_s=disturbed[3].yardstick_s)
    assert judge(starts(1), disturbed, floor=0.05).outcome == "slower"
    # Nor does it look like one.
    calm = starts(2)
    calm[3] = disturbed[3]
    assert judge(starts(1), calm, floor=0.05).outcome == "pass"


def one(times: float = 1.0, num: int = 12, *, yardstick: bool = True) -> Start:
    return Start(step_s=[0.4 * times] * num, yardstick_s=[0.004] * num if yardstick else ())


def judged_alone(times: float, *, yardstick: bool = True, spread: float = 0.0, num: int = 0) -> Judged:
    earlier = [one(1 + spread * (-1) ** i, yardstick=yardstick) for i in range(num)]
    sides = ([one(yardstick=yardstick)], [one(times, yardstick=yardstick)])
    return judge(*sides, floor=0.05, earlier=earlier)


def test_one_start_a_side_says_little_even_of_steady_steps() -> None:
    assert judged_alone(1.05).outcome == "inconclusive"
    assert judged_alone(1.3).outcome == "slower"
    # Without a yardstick even less.
    assert judged_alone(1.2, yardstick=False).outcome == "inconclusive"
    assert judged_alone(1.2).freedom == 0


def test_earlier_runs_tell_how_runs_differ() -> None:
    assert judged_alone(1.06, spread=0.003, num=8).outcome == "slower"
    assert judged_alone(1.06, spread=0.03, num=8).outcome == "inconclusive"
    assert judged_alone(1.0, spread=0.003, num=8).outcome == "pass"


def test_a_creep_from_run_to_run_does_not_hide_itself() -> None:
    creep = starts(3, num=12)
    creep = [
        Start(step_s=[1.04**run * step for step in start.step_s], yardstick_s=start.yardstick_s)
        for run, start in enumerate(creep)
    ]
    assert judge(creep[:-1], creep[-1:], floor=0.05, in_order=True).outcome == "slower"
    # The negative control: as a heap of starts they are so different that nothing is beyond them.
    assert judge(creep[:-1], creep[-1:], floor=0.05).outcome == "inconclusive"


def test_runs_in_order_that_do_not_creep_are_rarely_called_slower() -> None:
    said = [judge(found[:-1], found[-1:], floor=0.0, in_order=True).outcome for found in map(starts, range(1000, 1400))]
    assert said.count("slower") <= 8  # as above


def test_a_a_pairs_tell_how_starts_differ_where_there_is_a_yardstick() -> None:
    widths = [
        judge([one()], [one()], floor=0.05, pairs=pairs).ratio.high
        for pairs in ([1.001] * 6, [], [1.05, 0.95, 1.06, 0.94, 1.05, 0.95])
    ]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]
    without = [one(yardstick=False)]
    assert judge(without, without, floor=0.05, pairs=[1.001] * 6).freedom == 0


def test_pairs_that_are_no_times_tell_nothing() -> None:
    assert judge([one()], [one()], floor=0.05, pairs=[float("nan"), 0.0, -1.0, float("inf")]).freedom == 0


def test_scattered_steps_of_one_start_widen_its_interval() -> None:
    draw = np.random.default_rng(0)
    loose = Start(step_s=(0.4 * np.exp(draw.normal(0, 0.2, 12))).tolist(), yardstick_s=[0.004] * 12)
    steady, scattered = (judge([one()], [now], floor=0.05).ratio for now in (one(), loose))
    assert scattered.high / scattered.low > steady.high / steady.low


@pytest.mark.parametrize("times", [[], [0.0], [-1.0], [float("nan")], [float("inf")]])
def test_what_is_no_time_is_refused(times: list[float]) -> None:
    with pytest.raises(UsageError, match="expected times above zero"):
        Start(step_s=times)


def test_a_yardstick_must_lie_beside_every_step() -> None:
    with pytest.raises(UsageError, match="1 beside 2"):
        Start(step_s=[1.0, 1.0], yardstick_s=[1.0])


def test_both_sides_and_a_floor_are_needed() -> None:
    for before, now, floor in (([], [one()], 0.05), ([one()], [], 0.05), ([one()], [one()], float("nan"))):
        with pytest.raises(UsageError, match="expected starts on both sides"):
            judge(before, now, floor=floor)
