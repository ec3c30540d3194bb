"""Intervals cover what they promise, say when they cannot, and never hide a sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.measure.statistics import (
    Floats,
    autocorrelated,
    block_length,
    efficiency,
    interval,
    paired_ratio,
    reached_confidence,
)
from harness.timings import Interval

TIMES = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30)


@pytest.mark.parametrize("num_samples", [6, 12, 25])
def test_the_interval_covers_the_true_median_in_nine_of_ten_trials(num_samples: int) -> None:
    """Skewed samples as timings are: log-normal with median 1."""
    draw = np.random.default_rng(num_samples)
    found = [interval(list(np.exp(0.3 * draw.standard_normal(num_samples)))) for _ in range(150)]
    covered = sum(one.low <= 1 <= one.high for one in found) / len(found)
    assert covered >= 0.90


def test_an_interval_that_ignored_the_spread_would_not_cover() -> None:
    """The negative control of the test above: half as wide is not enough."""
    draw = np.random.default_rng(12)
    found = [interval(list(np.exp(0.3 * draw.standard_normal(12)))) for _ in range(150)]
    half = [(one.median - (one.median - one.low) / 2, one.median + (one.high - one.median) / 2) for one in found]
    assert sum(low <= 1 <= high for low, high in half) / len(half) < 0.85


@settings(max_examples=50, deadline=None)
@given(samples=TIMES)
def test_the_interval_holds_the_median_and_stays_within_the_samples(samples: list[float]) -> None:
    found = interval(samples)
    assert found.median == np.median(samples)
    assert min(samples) <= found.low <= found.median <= found.high <= max(samples)


@settings(max_examples=30, deadline=None)
@given(samples=TIMES, factor=st.sampled_from([0.5, 2.0, 1024.0]))
def test_the_unit_does_not_matter(samples: list[float], factor: float) -> None:
    found, scaled = interval(samples), interval([factor * sample for sample in samples])
    assert (scaled.low, scaled.median, scaled.high) == (factor * found.low, factor * found.median, factor * found.high)


def test_the_same_samples_give_the_same_interval() -> None:
    samples = [1.0, 1.2, 0.9, 1.1, 5.0, 1.05, 0.95]
    assert interval(samples) == interval(samples)
    assert interval(samples) != interval(samples, confidence=0.5)


def test_few_samples_give_their_range_and_it_is_said_how_little_that_is() -> None:
    assert interval([2.0]) == Interval(median=2.0, low=2.0, high=2.0)
    assert interval([1.0, 3.0]) == Interval(median=2.0, low=1.0, high=3.0)
    assert interval([5.0, 1.0, 3.0]) == Interval(median=3.0, low=1.0, high=5.0)
    assert [reached_confidence(n) for n in (1, 2, 3, 4, 5, 6, 50)] == [0, 0.5, 0.75, 0.875, 0.9375, 0.95, 0.95]


def test_another_statistic_may_be_asked_for() -> None:
    def means(rows: Floats) -> Floats:
        return np.asarray(rows.mean(axis=1))

    found = interval([1.0] * 9 + [11.0], statistic=means)
    assert found.median == 2.0
    assert found.low == 1.0
    assert found.high > 3.0


def test_pairs_cancel_a_slow_phase_of_the_machine() -> None:
    """Serial takes 1.5 times as long in every pair while the machine itself slows down fourfold."""
    phase = np.linspace(1, 4, 12)
    found = paired_ratio(list(1.5 * phase), list(phase))
    assert (found.low, found.median, found.high) == (1.5, 1.5, 1.5)
    unpaired = paired_ratio(list(1.5 * phase), list(phase[::-1]))
    assert unpaired.high - unpaired.low > 0.5


def test_efficiency_is_the_speed_up_per_rank() -> None:
    assert efficiency(Interval(median=1.8, low=1.6, high=2.0), 2) == Interval(median=0.9, low=0.8, high=1.0)


@pytest.mark.parametrize("samples", [[], [1.0, math.nan], [math.inf]])
def test_samples_that_are_none_are_bad_input(samples: list[float]) -> None:
    with pytest.raises(UsageError, match="at least one finite sample"):
        interval(samples)


def test_times_that_are_no_pairs_or_no_times_are_bad_input() -> None:
    with pytest.raises(UsageError, match="as many serial as parallel epochs but got 2 and 1"):
        paired_ratio([1.0, 2.0], [1.0])
    with pytest.raises(UsageError, match="times above zero"):
        paired_ratio([1.0, 2.0], [1.0, 0.0])


def drifting(seed: int, number: int = 40, likeness: float = 0.8) -> list[float]:
    """An autoregressive series around 1."""
    draw, found = np.random.default_rng(seed), [0.0]
    for _ in range(number + 20):
        found.append(likeness * found[-1] + 0.03 * float(draw.standard_normal()))
    return [1 + value for value in found[-number:]]


def test_samples_that_resemble_their_neighbours_get_a_wider_interval() -> None:
    found = [interval(drifting(seed)) for seed in range(120)]
    covered = sum(one.low <= 1 <= one.high for one in found) / len(found)
    shuffled = [interval(list(np.random.default_rng(0).permutation(drifting(seed)))) for seed in range(120)]
    naive = sum(one.low <= 1 <= one.high for one in shuffled) / len(shuffled)
    assert naive < 0.6, "the negative control: an interval that takes them for independent"
    assert covered > naive + 0.15


def test_independent_samples_are_taken_one_by_one() -> None:
    draw = np.random.default_rng(5)
    lengths = [block_length(list(1 + 0.03 * draw.standard_normal(20))) for _ in range(300)]
    assert sum(length > 1 for length in lengths) <= 9
    assert autocorrelated([1.0] * 10) is None
    assert autocorrelated([1.0, 2.0]) is None
