"""What collectives did while a rank computed: bytes, time hidden and exposed, bandwidths by nccl-tests' definitions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.measure.collectives import Event, bus_factor, communication, length, overlap, union
from harness.timings import Communication


def called(start_s: float, end_s: float, num_bytes: int = 1_000, name: str = "gloo:all_reduce") -> Event:
    return Event(name=name, start_s=start_s, end_s=end_s, num_bytes=num_bytes)


def work(start_s: float, end_s: float) -> Event:
    return Event(name="aten::mm", start_s=start_s, end_s=end_s)


def of(collectives: list[Event], computing: list[Event] = [], **settings: Any) -> Communication:  # noqa: B006
    found = communication(collectives, computing, **({"rank": 1, "num_ranks": 2, "epoch_s": 10.0} | settings))
    assert found is not None
    return found


def test_calls_that_overlap_are_busy_once_and_exposed_where_nothing_is_computed() -> None:
    found = of([called(1, 3), called(2, 4), called(6, 7)], [work(0, 2.5), work(3.5, 6.25), work(2, 2.2)])
    assert (found.num_calls, found.num_bytes) == (3, 3_000)
    assert found.busy_s == pytest.approx(4)
    assert found.exposed_s == pytest.approx(1 + 0.75)
    assert (found.rank, found.epoch_s) == (1, 10.0)


def test_barriers_do_not_count_and_without_collectives_there_is_nothing_to_tell() -> None:
    barriers = [called(0, 9, 0, "gloo:barrier"), called(0, 9, 4, "nccl:all_reduce_barrier")]
    assert communication(barriers, [], rank=0, num_ranks=2, epoch_s=9.0) is None
    assert of([*barriers, called(1, 2)]).busy_s == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("gloo:all_reduce", 1.5),
        ("nccl:all_reduce", 1.5),
        # Handed a quarter of what arrives.
        ("nccl:_all_gather_base", 0.75 * 4),
        ("gloo:all_gather", 0.75 * 4),
        ("nccl:_reduce_scatter_base", 0.75),
        ("gloo:broadcast", 1.0),
    ],
)
def test_bus_bandwidth_is_that_of_nccl_tests_on_four_ranks(name: str, factor: float) -> None:
    found = of([called(1, 3, 1_000, name)], num_ranks=4)
    assert found.bus_bytes_per_s == pytest.approx(factor * 1_000 / 2)


@pytest.mark.parametrize("name", ["gloo:send", "gloo:recv", "nccl:coalesced"])
def test_messages_from_rank_to_rank_have_no_bus_bandwidth(name: str) -> None:
    found = of([called(1, 2), called(3, 4, name=name)])
    assert (found.num_calls, found.num_bytes, found.bus_bytes_per_s) == (2, 2_000, None)


def test_groups_of_unknown_size_and_a_lone_rank_have_none_either() -> None:
    assert of([called(1, 2)], num_ranks=None).bus_bytes_per_s is None
    assert of([called(1, 2)], num_ranks=1).bus_bytes_per_s is None
    assert bus_factor("allreduce", 1) == 0


def test_where_a_device_tells_its_kernels_these_are_what_takes_time() -> None:
    kernels = [called(0.1, 0.9, 0, "ncclDevKernel_AllReduce"), called(2, 4, 0, "ncclDevKernel_AllReduce")]
    found = of([called(1.5, 1.6)], [work(3, 5)], moving=kernels)
    # The first belongs to a barrier from before the epoch.
    assert found.busy_s == pytest.approx(2)
    assert found.exposed_s == pytest.approx(1)
    assert (found.num_calls, found.num_bytes) == (1, 1_000)


Spans = list[tuple[int, int]]
spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda s: (s[0], s[0] + s[1])), max_size=8)


@given(spans, spans)
def test_union_and_overlap_are_those_of_sets_of_moments(first: Spans, second: Spans) -> None:
    def moments(given: Spans) -> set[int]:
        return {moment for start, end in given for moment in range(start, end)}

    one, other = union(first), union(second)
    assert length(one) == len(moments(first))
    assert overlap(one, other) == pytest.approx(len(moments(first) & moments(second)))
