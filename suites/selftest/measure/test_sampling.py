"""Timing goes on until it is as precise as was asked, or its time is up, and says which."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.errors import UsageError
from harness.measure.sampling import Plan, decide, half_width, looked_at, num_needed
from harness.measure.statistics import paired_ratio
from harness.timings import Interval, Sampling

PATIENT = Plan(precision=0.02, budget_s=1e6)


def rounds(number: int, spread: float, seed: int = 0) -> tuple[list[float], list[float]]:
    draw = np.random.default_rng(seed)
    serial, parallel = (level * np.exp(spread * draw.standard_normal(number)) for level in (1.0, 0.6))
    return list(serial), list(parallel)


def run(spread: float, plan: Plan, seed: int = 0, minimum: int = 6) -> Sampling:
    """Time rounds of a second each until it is enough."""
    serial, parallel = rounds(2_000, spread, seed)
    for number in range(1, 2_000):
        found = decide(serial[:number], parallel[:number], plan, minimum=minimum, elapsed_s=float(number))
        if found is not None:
            return found
    raise AssertionError("it never ends")


def test_a_steady_machine_needs_few_rounds_and_a_noisy_one_more() -> None:
    quiet, noisy = run(0.002, PATIENT), run(0.05, PATIENT)
    assert (quiet.stopped, quiet.num_rounds, quiet.num_needed) == ("precise", 6, None)
    assert noisy.stopped == "precise"
    assert noisy.num_rounds > 20
    assert max(quiet.reached, noisy.reached) <= 0.02


def test_the_budget_ends_it_and_says_how_many_rounds_would_be_needed() -> None:
    found = run(0.05, Plan(precision=0.02, budget_s=12.0))
    assert (found.stopped, found.num_rounds) == ("budget", 12)
    assert found.reached > 0.02
    assert found.num_needed is not None
    assert found.num_needed > 12


def test_the_training_is_finished_however_small_the_budget() -> None:
    assert run(0.05, Plan(budget_s=0.0), minimum=10).num_rounds == 10


def test_too_few_rounds_are_never_called_precise() -> None:
    found = run(0.0001, Plan(budget_s=0.0), minimum=3)
    assert (found.stopped, found.num_rounds) == ("budget", 3)


def test_one_round_has_no_precision_and_loses_nothing() -> None:
    found = decide([1.0], [1.0], Plan(budget_s=0.0), minimum=1, elapsed_s=1.0)
    assert found is not None
    assert (found.num_rounds, found.reached, found.num_needed) == (1, math.inf, None)


def test_it_is_not_looked_at_after_every_round() -> None:
    assert [number for number in range(40) if looked_at(number, 10)] == [10, 13, 17, 22, 28, 36]
    assert looked_at(1, 0)


def test_intervals_that_ended_the_timing_still_cover_the_true_ratio() -> None:
    """Stopping where an interval happens to be narrow must not make it wrong."""
    covered = 0
    for seed in range(100):
        serial, parallel = rounds(400, 0.04, seed + 1)
        found = run(0.04, PATIENT, seed + 1)
        ratio = paired_ratio(serial[: found.num_rounds], parallel[: found.num_rounds])
        covered += ratio.low <= 1 / 0.6 <= ratio.high
    assert covered / 100 >= 0.87


def test_what_is_needed_grows_with_the_square_of_what_is_missing() -> None:
    assert num_needed(10, reached=0.04, precision=0.02) == 40
    assert half_width(Interval(median=2.0, low=1.9, high=2.1)) == pytest.approx(0.05)


@pytest.mark.parametrize("settings", [{"precision": 0.0}, {"precision": 1.5}, {"budget_s": -1.0}])
def test_what_cannot_be_reached_is_bad_input(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"expected a (precision|budget)"):
        Plan(**settings)
