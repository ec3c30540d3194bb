"""Two one-sided tests: three conclusions, each as often wrong as it says, from as many pairs as it takes."""

from __future__ import annotations

import numpy as np
import pytest

from harness.oracles import tost


def test_the_interval_is_students() -> None:
    """By hand: mean 3, deviation sqrt(2.5), t at 95 % for 4 degrees of freedom 2.132."""
    found = tost.paired_interval([1.0, 2.0, 3.0, 4.0, 5.0], tost.INSIDE)
    assert (found.median, found.low, found.high) == pytest.approx((3.0, 3 - 1.5075, 3 + 1.5075), abs=1e-4)


@pytest.mark.parametrize(
    ("differences", "conclusion"),
    [
        ([0.1, -0.1, 0.05, -0.05, 0.0], "equivalent"),
        ([0.0, 0.0, 0.0, 0.0, 0.0], "equivalent"),
        ([0.5, 0.5, 0.5, 0.51, 0.5], "equivalent"),  # certain, and still within the margin
        ([2.1, 1.9, 2.0, 2.2, 1.8], "different"),
        ([-2.1, -1.9, -2.0, -2.2, -1.8], "different"),  # better is different, too
        ([3.0, -3.0, 2.0, -2.0, 0.0], "inconclusive"),
        ([1.1, 0.9, 1.0, 1.2, 0.8], "inconclusive"),
    ],
)
def test_three_conclusions(differences: list[float], conclusion: str) -> None:
    assert tost.conclude(differences, 1.0) == conclusion


@pytest.mark.parametrize(("num_pairs", "ratio"), [(5, 0.5), (8, 0.7), (16, 1.15)])
def test_the_power_is_what_a_simulation_finds(num_pairs: int, ratio: float) -> None:
    draws = np.random.default_rng(num_pairs).normal(0, ratio, (1500, num_pairs))
    simulated = np.mean([tost.conclude(row.tolist(), 1.0) == "equivalent" for row in draws])
    # Three standard errors of a share near 0.9 among 1,500.
    assert simulated == pytest.approx(tost.power(num_pairs, ratio), abs=0.025)


@pytest.mark.parametrize("ratio", [0.3, 0.8, 1.5, 10.0])
def test_as_many_pairs_as_the_power_takes_and_no_more(ratio: float) -> None:
    num = tost.num_pairs_needed(ratio)
    assert tost.power(num, ratio) >= 0.9
    assert tost.power(num - 1, ratio) < 0.9


def test_without_any_spread_the_least_is_enough() -> None:
    assert tost.num_pairs_needed(0.0, least=5) == 5


def test_a_difference_as_large_as_the_margin_passes_one_time_in_twenty() -> None:
    draws = np.random.default_rng(0).normal(1.0, 0.4, (2000, 6))
    passed = np.mean([tost.conclude(row.tolist(), 1.0) == "equivalent" for row in draws])
    assert passed == pytest.approx(0.05, abs=0.015)
