"""The laws of scaling keep to their closed forms, and to what each of them promises."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.measure.laws import amdahl, gustafson, karp_flatt, scaled_fraction, usl, usl_peak

FRACTIONS = st.floats(0, 1)
RANKS = st.integers(2, 4096)


def test_amdahl_is_the_inverse_of_the_serial_share_plus_the_spread_one() -> None:
    assert amdahl(10, 0.1) == pytest.approx(1 / (0.1 + 0.9 / 10))
    assert amdahl(1e12, 0.05) == pytest.approx(20)
    assert [amdahl(8, 0), amdahl(8, 1), amdahl(1, 0.3)] == [8, 1, 1]


def test_gustafson_is_the_serial_share_plus_the_spread_one_times_the_ranks() -> None:
    assert gustafson(64, 0.1) == pytest.approx(0.1 + 0.9 * 64)
    assert [gustafson(8, 0), gustafson(8, 1), gustafson(1, 0.3)] == [8, 1, 1]


@given(FRACTIONS, RANKS)
def test_no_serial_fraction_makes_a_speed_up_above_the_ranks_or_below_one(fraction: float, ranks: int) -> None:
    assert 1 - 1e-9 <= amdahl(ranks, fraction) <= gustafson(ranks, fraction) + 1e-9 <= ranks + 1e-6


@given(st.floats(0, 0.5), st.floats(1e-6, 1e-2))
def test_usl_peaks_where_it_says(sigma: float, kappa: float) -> None:
    top = usl_peak(sigma, kappa)
    assert top == pytest.approx(math.sqrt((1 - sigma) / kappa))
    assert usl(top, sigma, kappa) >= max(usl(0.95 * top, sigma, kappa), usl(1.05 * top, sigma, kappa))


def test_usl_without_coherence_is_amdahl_and_never_peaks() -> None:
    assert usl(16, 0.07, 0) == amdahl(16, 0.07)
    assert usl_peak(0.07, 0) == math.inf


@given(FRACTIONS, RANKS)
def test_karp_flatt_finds_the_fraction_behind_amdahl_and_the_scaled_one_that_behind_gustafson(
    fraction: float, ranks: int
) -> None:
    assert karp_flatt(amdahl(ranks, fraction), ranks) == pytest.approx(fraction, abs=1e-9)
    assert scaled_fraction(gustafson(ranks, fraction), ranks) == pytest.approx(fraction, abs=1e-9)


def test_karp_flatt_is_negative_above_linear_and_above_one_below_serial() -> None:
    assert karp_flatt(2.14, 2) < 0
    assert karp_flatt(0.62, 2) > 1


@pytest.mark.parametrize(("speedup", "ranks"), [(1.0, 1), (0.0, 2), (-1.0, 2), (math.nan, 2), (math.inf, 2)])
def test_what_is_no_speed_up_has_no_fraction(speedup: float, ranks: int) -> None:
    for fraction in (karp_flatt, scaled_fraction):
        with pytest.raises(UsageError, match="expected a positive speed-up on 2 or more ranks"):
            fraction(speedup, ranks)
