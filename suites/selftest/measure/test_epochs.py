"""An epoch takes as long as its slowest rank, and a series of epochs is doubted aloud."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import UsageError
from harness.measure.epochs import drift, durations, outliers, series_warnings, walls
from harness.timings import Epoch


def epoch(start_s: float, end_s: float) -> Epoch:
    return Epoch(start_s=start_s, end_s=end_s, num_samples=100)


RANKS = [[epoch(0.0, 1.0), epoch(10.0, 11.0)], [epoch(0.25, 1.5), epoch(10.25, 11.75)]]


def noisy(num_samples: int, spread: float = 0.01, seed: int = 1) -> list[float]:
    return list(1 + spread * np.random.default_rng(seed).uniform(-1, 1, num_samples))


def test_an_epoch_spans_from_the_first_start_to_the_last_end() -> None:
    assert walls(RANKS) == (1.5, 1.75)
    assert durations(RANKS) == ((1.0, 1.0), (1.25, 1.5))


@pytest.mark.parametrize("ranks", [[], [[]], [[epoch(0, 1)], []]])
def test_ranks_without_the_same_epochs_are_bad_input(ranks: list[list[Epoch]]) -> None:
    with pytest.raises(UsageError, match="the same number of epochs, at least one, of every rank"):
        walls(ranks)


def test_a_steady_series_gives_no_warning() -> None:
    for seed in range(20):
        assert series_warnings("parallel", noisy(12, seed=seed)) == []


def test_too_few_samples_are_said_with_what_they_cover() -> None:
    (told,) = series_warnings("parallel", noisy(3))
    assert told.startswith("parallel: 3 timed epochs: the interval is their whole range and covers the median in 75 %")
    assert "1 timed epoch:" in series_warnings("parallel", [1.0])[0]


def test_a_drift_is_said_with_its_direction_and_size() -> None:
    rising = [time * (1 + 0.02 * i) for i, time in enumerate(noisy(12))]
    (told,) = series_warnings("parallel", rising)
    assert "slower from first to last" in told
    size = drift(rising)
    assert size is not None
    assert 0.15 < size < 0.25
    assert "faster" in series_warnings("parallel", rising[::-1])[0]


def test_a_drift_too_small_to_matter_is_not_said() -> None:
    assert drift([1 + 0.0001 * i for i in range(12)]) is None


def test_outliers_are_counted_and_kept() -> None:
    samples = noisy(12)
    samples[5] = 1.2
    assert outliers(samples) == (5,)
    assert series_warnings("parallel", samples) == [
        "parallel: 1 of 12 epochs lie far from the median (kept in the figures); something else may be running"
    ]
    assert outliers([1.0] * 11 + [1.001]) == (), "a thousandth is nothing, however steady the rest"


def test_a_wide_scatter_is_said_as_pyperf_does() -> None:
    (told,) = [line for line in series_warnings("parallel", noisy(12, spread=0.3)) if "scatter" in line]
    assert "quiet the machine" in told
    one_far = noisy(12)
    one_far[5] = 1.7
    assert any("the furthest lies 7" in line for line in series_warnings("parallel", one_far))


def test_epochs_of_less_than_a_millisecond_are_said_to_be_short() -> None:
    (told,) = series_warnings("parallel", [5e-4 * value for value in noisy(12)])
    assert "the shortest epoch takes 0.5 ms" in told


def test_epochs_that_resemble_the_one_before_them_count_for_less() -> None:
    wave = [1 + 0.05 * float(np.sin(number / 3)) for number in range(40)]
    (told,) = series_warnings("parallel", wave)
    assert "resemble the one before them (autocorrelation 0.9" in told
    assert "40 are worth about" in told
