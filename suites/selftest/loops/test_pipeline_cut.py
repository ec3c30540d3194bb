"""Cutting a model into stages: the lightest heaviest stage, and words for what cannot be cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import Workload, workloads
from harness.errors import SpecError
from harness.loops import pipeline_cut
from harness.spec import Check


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(1, 4))
def test_the_heaviest_stage_is_as_light_as_any_cut_allows(costs: list[int], num_stages: int) -> None:
    if len(costs) < num_stages:
        with pytest.raises(SpecError):
            pipeline_cut.balanced(costs, num_stages)
        return
    found = pipeline_cut.balanced(costs, num_stages)
    assert sum(found) == len(costs)
    assert min(found) >= 1

    def heaviest(cuts: tuple[int, ...]) -> int:
        ends = (0, *cuts, len(costs))
        return max(sum(costs[start:end]) for start, end in itertools.pairwise(ends))

    best = min(heaviest(cuts) for cuts in itertools.combinations(range(1, len(costs)), num_stages - 1))
    assert heaviest(tuple(itertools.accumulate(found[:-1]))) == best


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=8), st.integers(1, 4))
def test_every_stage_trains_something_where_there_is_enough(layers: list[tuple[float, bool]], num_stages: int) -> None:
    costs, trained = [cost for cost, _ in layers], [trains for _, trains in layers]
    if len(layers) < num_stages:
        return
    counts = pipeline_cut.cut(costs, trained, num_stages)
    assert (len(counts), sum(counts), min(counts) >= 1) == (num_stages, len(layers), True)
    ends = list(itertools.accumulate(counts))
    stages = [trained[end - count : end] for end, count in zip(ends, counts, strict=True)]
    assert all(map(any, stages)) == (sum(trained) >= num_stages)


def test_layers_without_weights_stay_with_the_layer_before_them() -> None:
    # flatten dense relu | dense relu dense: by cost alone, flatten would be a stage.
    costs, trained = [9.0, 1.0, 1.0, 4.0, 1.0, 1.0], [False, True, False, True, False, True]
    assert pipeline_cut.balanced(costs, 2) == [1, 5]
    assert pipeline_cut.cut(costs, trained, 2) == [3, 3]


@pytest.mark.parametrize(
    ("num_stages", "balance", "said"),
    [
        (7, "", "expected at least one layer per stage but the model has 6 layers for 7 stages; use fewer ranks"),
        (2, "3-4", "2 numbers that add up to the 6 layers of model 'mlp' but got '3-4', which are 2 that add up to 7"),
        (2, "2-2-2", "which are 3 that add up to 6"),
        (2, "6-0", "expected balance to be numbers of layers >= 1, as in '3-4', but got '6-0'"),
        (2, "3,3", "expected balance to be numbers of layers >= 1, as in '3-4', but got '3,3'"),
    ],
)
def test_a_model_that_cannot_be_cut_so_is_refused(num_stages: int, balance: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        pipeline_cut.require(workloads.get("digits-mlp"), num_stages, balance)
    assert said in str(caught.value)


def test_a_cut_that_is_possible_is_accepted() -> None:
    pipeline_cut.require(workloads.get("digits-mlp"), 6, "")
    pipeline_cut.require(workloads.get("digits-mlp"), 2, "2-4")


@pytest.mark.parametrize(
    ("chunks", "num_ranks", "schedule", "said"),
    [
        (-1, 2, "gpipe", "expected chunks of schedule 'gpipe' to be >= 1, or 0 for one per rank but got -1"),
        (2, 3, "1f1b", "expected chunks of schedule '1f1b' to be >= 3 (ranks) but got 2"),
        (5, 2, "interleaved", "expected chunks of schedule 'interleaved' to be a multiple of 2 (rounds) but got 5"),
    ],
)
def test_micro_batches_that_a_schedule_does_not_take_are_refused(
    chunks: int, num_ranks: int, schedule: str, said: str
) -> None:
    with pytest.raises(SpecError) as caught:
        pipeline_cut.require_chunks(chunks, num_ranks, schedule)
    assert str(caught.value) == said


def test_padding_never_reaches_a_batch_norm() -> None:
    even = workloads.get("digits-batchnorm-even")
    for pieces in (2, 3, 4):
        pipeline_cut.require_equal_micro_batches(even, pieces)
    with pytest.raises(SpecError, match=r"expected check.global_batch to be a multiple of 5 .* but got 24"):
        pipeline_cut.require_equal_micro_batches(even, 5)
    plain = Workload(name="own", model="mlp", dataset="digits", check=Check(global_batch=31))
    pipeline_cut.require_equal_micro_batches(plain, 2)
