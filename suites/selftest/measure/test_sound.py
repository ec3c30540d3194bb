"""Epochs that cannot have been are refused, with what is wrong and which rank told them."""

from __future__ import annotations

import math

import pytest

from harness.errors import UsageError
from harness.measure.sound import flaw, odd_one, require_sound
from harness.timings import Epoch


def epoch(start_s: float, end_s: float, num_samples: int = 100) -> Epoch:
    return Epoch(start_s=start_s, end_s=end_s, num_samples=num_samples)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (epoch(5.0, 4.5), "it ended 0.5 s before"),
        (epoch(5.0, 5.0), "expected 100 samples to take time but the epoch took 0 s"),
        (epoch(math.nan, 5.0), "from nan to 5.0"),
        (epoch(5.0, math.inf), "from 5.0 to inf"),
        (epoch(1.0, 5.0), "it began 2 s earlier"),
        (epoch(5.0, 12.0), "it ended 2 s later"),
    ],
)
def test_an_epoch_that_cannot_have_been_is_refused_in_words(told: Epoch, words: str) -> None:
    found = flaw(told, after_s=3.0, before_s=10.0)
    assert found is not None
    assert words in found
    assert found.startswith("expected")
    assert "time.monotonic()" in found


def test_an_epoch_within_its_turn_is_fine() -> None:
    assert flaw(epoch(3.0, 10.0), after_s=3.0, before_s=10.0) is None


def test_a_rank_that_trains_nothing_of_its_own_may_take_no_time() -> None:
    assert flaw(epoch(5.0, 5.0, num_samples=0)) is None
    assert odd_one([epoch(1, 2), epoch(2, 2, 0)]) is None


def test_the_rank_whose_number_of_samples_is_not_its_peers_is_named() -> None:
    odd = odd_one([epoch(1, 2), epoch(1, 2), epoch(1, 2, 50)])
    assert odd is not None
    assert odd[0] == 2
    assert "100 as most do, but it told 50" in odd[1]


def test_of_two_ranks_that_disagree_the_second_is_named() -> None:
    odd = odd_one([epoch(1, 2), epoch(1, 2, 50)])
    assert odd is not None
    assert odd[0] == 1


def test_rank_0_always_tells_its_samples() -> None:
    odd = odd_one([epoch(1, 2, 0), epoch(1, 2)])
    assert odd is not None
    assert odd[0] == 0
    assert "it told 0" in odd[1]


def test_series_in_order_are_sound() -> None:
    rows = [[epoch(1, 2), epoch(2, 3)], [epoch(1.5, 2), epoch(2, 3.5)]]
    require_sound(rows)
    with pytest.raises(UsageError, match="epoch 1 of rank 0"):
        require_sound([row[::-1] for row in rows])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[epoch(1, 2), epoch(1.5, 3)]], "epoch 1 of rank 0: expected it to begin after the last one ended but it"),
        ([[epoch(1, 2)], [epoch(2, 1)]], "epoch 0 of rank 1: expected an epoch to end after its start"),
        ([[epoch(1, 2)], [epoch(1, 2, 3)]], "epoch 0 of rank 1: expected every rank to tell the number of samples"),
    ],
)
def test_series_that_cannot_have_been_name_their_epoch_and_rank(rows: list[list[Epoch]], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        require_sound(rows)
