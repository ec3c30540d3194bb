from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import SpecError
from harness.strategies.torchgpipe import balanced


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(1, 4))
def test_the_heaviest_partition_is_as_light_as_any_cut_allows(costs: list[int], num_partitions: int) -> None:
    if len(costs) < num_partitions:
        with pytest.raises(SpecError):
            balanced(costs, num_partitions)
        return
    found = balanced(costs, num_partitions)
    assert sum(found) == len(costs)
    assert min(found) >= 1

    def heaviest(cuts: tuple[int, ...]) -> int:
        ends = (0, *cuts, len(costs))
        return max(sum(costs[start:end]) for start, end in itertools.pairwise(ends))

    best = min(heaviest(cuts) for cuts in itertools.combinations(range(1, len(costs)), num_partitions - 1))
    assert heaviest(tuple(itertools.accumulate(found[:-1]))) == best


def test_more_partitions_than_layers_says_what_to_do() -> None:
    with pytest.raises(
        SpecError, match=r"at least one layer per partition but the model has 2 layers for 3 .* fewer ranks"
    ):
        balanced([1, 1], 3)
