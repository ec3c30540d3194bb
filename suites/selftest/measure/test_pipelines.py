"""How busy pipelines are, against what their schedules allow."""

from __future__ import annotations

import pytest

from harness.measure.pipelines import ideal, joined, rank_of_pipeline
from harness.timings import Epoch


def epoch(forward_s: float, backward_s: float, waiting_s: float, data_s: float = 0.5) -> Epoch:
    parts = {"data": data_s, "forward": forward_s, "backward": backward_s, "communication": waiting_s}
    return Epoch(start_s=0.0, end_s=sum(parts.values()), num_samples=8, parts=parts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("num_ranks", "num_micro_batches", "num_stages_each", "share"),
    [(1, 4, 1, 1.0), (2, 2, 1, 2 / 3), (4, 4, 1, 4 / 7), (4, 12, 1, 12 / 15), (2, 2, 2, 2 / 2.5)],
)
def test_the_ideal_is_that_of_gpipe_and_less_of_a_bubble_with_interleaved_stages(
    num_ranks: int, num_micro_batches: int, num_stages_each: int, share: float
) -> None:
    assert ideal(num_ranks, num_micro_batches, num_stages_each) == pytest.approx(share)


def test_stages_of_equal_cost_that_lose_nothing_reach_the_ideal() -> None:
    # Two stages, two micro-batches of a second each way: both ranks wait for one of three slots, forward and backward.
    ranks = [
        rank_of_pipeline([epoch(9, 9, 9), epoch(2, 2, 2), epoch(2, 2, 2)], num_micro_batches=2, num_ranks=2)
        for _ in range(2)
    ]
    whole = joined(ranks)
    assert whole is not None
    assert (whole.busy_s, whole.epoch_s) == ((4.0, 4.0), 6.0)
    assert whole.efficiency == pytest.approx(whole.ideal)


def test_a_lame_stage_shows_in_its_own_busy_time_and_in_the_efficiency() -> None:
    ranks = [
        rank_of_pipeline([epoch(2, 2, 8)] * 2, num_micro_batches=2, num_ranks=2),
        rank_of_pipeline([epoch(4, 4, 4)] * 2, num_micro_batches=2, num_ranks=2),
    ]
    whole = joined(ranks)
    assert whole is not None
    assert whole.busy_s == (4.0, 8.0)
    assert whole.efficiency == pytest.approx(0.5)
    assert whole.efficiency < whole.ideal


def test_without_parts_or_ranks_that_tell_there_is_no_pipeline() -> None:
    bare = Epoch(start_s=0.0, end_s=1.0, num_samples=8)
    assert rank_of_pipeline([bare, bare], num_micro_batches=2, num_ranks=2) is None
    assert joined([None, None]) is None
