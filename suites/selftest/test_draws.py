"""Counter-based draws are a function of their key alone, and look like chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.draws import keep_mask, shifts

ALL = np.arange(300, dtype=np.int64)
PINNED_MASK = [
    [1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
    [0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1],
    [1, 0, 0, 1, 0, 0, 1, 1, 1, 1, 1, 1],
]
PINNED_SHIFTS = [[2, 0], [1, -1], [1, 1]]


def mask(
    *,
    seed: int = 0,
    step: int = 0,
    layer: str = "dropout1",
    samples: NDArray[np.int64] = ALL,
    shape: tuple[int, ...] = (8, 7, 7),
    rate: float = 0.25,
) -> NDArray[np.uint8]:
    return keep_mask(seed, step, layer, samples, shape, rate)


def largest_correlation(kept: NDArray[np.uint8]) -> float:
    """Return the largest correlation of a mask [samples, elements] with a neighbour's, in standard errors."""
    centred = kept - kept.mean()
    pairs = [(centred[:, :-lag], centred[:, lag:]) for lag in (1, 2, 3, 4, 5, 8)]
    pairs += [(centred[:-lag], centred[lag:]) for lag in (1, 2, 64)]
    return float(max(abs((a * b).mean()) / centred.var() * np.sqrt(a.size) for a, b in pairs))


@given(st.lists(st.integers(0, 70_000), max_size=70), st.integers(1, 9))
def test_a_row_depends_on_its_sample_and_not_on_its_neighbours(samples: list[int], width: int) -> None:
    chosen = np.array(samples, dtype=np.int64)
    rows = mask(samples=chosen, shape=(width,), rate=0.5)
    assert rows.shape == (len(samples), width)
    for sample, row in zip(chosen, rows, strict=True):
        np.testing.assert_array_equal(row, mask(samples=np.array([sample]), shape=(width,), rate=0.5)[0])


def test_any_order_and_any_sharding_gives_the_same_rows() -> None:
    order = np.random.default_rng(0).permutation(ALL)
    np.testing.assert_array_equal(mask(samples=order), mask()[order])
    shards = [mask(samples=shard) for shard in np.array_split(ALL, 7)]
    np.testing.assert_array_equal(np.concatenate(shards), mask())


def test_block_boundaries_leave_no_trace() -> None:
    """A site wider than one block of the computation gives the rows that a single sample gives."""
    wide = mask(samples=ALL[:3], shape=(80_001,))
    np.testing.assert_array_equal(wide[2], mask(samples=ALL[2:3], shape=(80_001,))[0])


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_the_share_kept_is_one_minus_the_rate(rate: float) -> None:
    kept = mask(rate=rate)
    standard_error = np.sqrt(rate * (1 - rate) / kept.size)
    assert abs(kept.mean() - (1 - rate)) < 4 * standard_error
    assert set(np.unique(kept)) == {0, 1}


def test_rate_zero_keeps_everything() -> None:
    assert mask(rate=0.0).all()


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 1}, {"layer": "dropout2"}, {"step": -1}])
def test_another_seed_step_or_layer_is_another_independent_draw(change: dict[str, int]) -> None:
    first, second = mask(rate=0.5), mask(rate=0.5, **change)  # type: ignore[arg-type]
    agreement = (first == second).mean()
    assert abs(agreement - 0.5) < 4 * 0.5 / np.sqrt(first.size)


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_neighbouring_elements_and_samples_are_not_correlated(rate: float) -> None:
    assert largest_correlation(mask(shape=(1024,), rate=rate)) < 4.5


def test_the_correlation_check_sees_a_generator_that_repeats_itself() -> None:
    kept = mask(shape=(1024,))
    kept[1::2, ::20] = kept[::2, ::20]
    assert largest_correlation(kept) > 4.5


def test_the_numbers_are_the_same_on_every_machine_and_in_every_version() -> None:
    """Pinned: results of different machines are compared, so these must never change."""
    samples = np.array([0, 1, 59_999])
    assert mask(seed=7, step=3, samples=samples, shape=(12,), rate=0.5).tolist() == PINNED_MASK
    assert shifts(7, 3, samples, 2).tolist() == PINNED_SHIFTS


def test_shifts_reach_every_displacement_equally_often() -> None:
    reach, samples = 2, np.arange(20_000)
    drawn = shifts(0, 0, samples, reach)
    cells = np.bincount((drawn[:, 0] + reach) * 5 + drawn[:, 1] + reach, minlength=25)
    assert cells.size == 25
    expected = len(samples) / 25
    chi_square = ((cells - expected) ** 2 / expected).sum()
    assert chi_square < 52.6  # the 99.93 % point with 24 degrees of freedom


def test_shifts_follow_the_sample() -> None:
    np.testing.assert_array_equal(shifts(0, 5, ALL[::-1], 3), shifts(0, 5, ALL, 3)[::-1])
    assert (shifts(0, 5, ALL, 3) != shifts(0, 6, ALL, 3)).any()
    assert not shifts(0, 5, ALL, 0).any()
