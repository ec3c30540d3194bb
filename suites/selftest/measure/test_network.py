"""Collectives cost what their closed forms say, and a link's alpha and beta come back from measured times."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.measure.network import (
    Collective,
    Fabric,
    Link,
    all_gather,
    broadcast,
    bus_factor,
    fit_ring,
    hierarchical_all_reduce,
    ring_all_reduce,
    seconds,
    send,
    tree_all_reduce,
    typical_error,
)

LINK = Link(alpha_s=1e-5, bytes_per_s=1e10)
FAST = Link(alpha_s=3e-6, bytes_per_s=2e11)
NODES = Fabric(inner=FAST, outer=LINK, ranks_per_node=8)
KINDS: tuple[Collective, ...] = ("all-reduce", "all-gather", "reduce-scatter", "broadcast", "send")
SIZES = (1 << 10, 1 << 14, 1 << 18, 1 << 22, 1 << 26)


def test_the_closed_forms() -> None:
    assert send(LINK, 1e8) == pytest.approx(1e-5 + 0.01)
    assert ring_all_reduce(LINK, 4, 1e8) == pytest.approx(6e-5 + 1.5 * 0.01)
    assert tree_all_reduce(LINK, 8, 1e8) == pytest.approx(6e-5 + 0.02)
    assert all_gather(LINK, 4, 1e8) == pytest.approx(3e-5 + 0.75 * 0.01)
    assert broadcast(LINK, 8, 1e8) == pytest.approx(3e-5 + 0.01)


def test_a_ring_is_a_reduce_scatter_and_an_all_gather() -> None:
    assert ring_all_reduce(LINK, 6, 3e7) == pytest.approx(2 * all_gather(LINK, 6, 3e7))


def test_node_by_node_only_shards_cross() -> None:
    inside = 2 * all_gather(FAST, 8, 1e8)
    assert hierarchical_all_reduce(NODES, 32, 1e8) == pytest.approx(inside + ring_all_reduce(LINK, 4, 1e8))


@pytest.mark.parametrize("cost", [ring_all_reduce, tree_all_reduce, all_gather, broadcast])
def test_one_rank_sends_nothing(cost: Callable[[Link, int, float], float]) -> None:
    assert cost(LINK, 1, 1e9) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_one_rank_or_no_bytes_cost_nothing_on_any_machine(kind: Collective) -> None:
    assert seconds(NODES, kind, 1, 1e9) == seconds(NODES, kind, 64, 0) == 0


@given(kind=st.sampled_from(KINDS), ranks=st.integers(2, 600), more=st.integers(1, 400), size=st.floats(1, 1e10))
def test_more_ranks_or_bytes_never_cost_less(kind: Collective, ranks: int, more: int, size: float) -> None:
    now = seconds(NODES, kind, ranks, size)
    assert seconds(NODES, kind, ranks + more, size) >= now * (1 - 1e-12)
    assert seconds(NODES, kind, ranks, 2 * size) >= now


@given(ranks=st.integers(2, 1_024), size=st.floats(1, 1e10))
def test_an_all_reduce_takes_the_quickest_way_and_beats_no_bandwidth(ranks: int, size: float) -> None:
    found = seconds(NODES, "all-reduce", ranks, size)
    assert found <= hierarchical_all_reduce(NODES, ranks, size)
    # Every node must send and receive what the others lack.
    nodes = NODES.num_nodes(ranks)
    assert found >= 2 * (nodes - 1) / nodes * size * LINK.beta_s * (1 - 1e-12)


def test_many_ranks_take_the_tree_and_few_the_ring_for_a_small_message() -> None:
    """Latency of a ring grows with the ranks, that of a tree with their logarithm."""
    flat = Fabric(inner=LINK, outer=LINK, ranks_per_node=1)
    assert seconds(flat, "all-reduce", 512, 1e3) == pytest.approx(tree_all_reduce(LINK, 512, 1e3), rel=1e-6)
    assert seconds(flat, "all-reduce", 4, 1e9) == pytest.approx(ring_all_reduce(LINK, 4, 1e9), rel=1e-6)


def test_bus_bandwidth_as_nccl_tests_define_it() -> None:
    assert [bus_factor(kind, 4) for kind in KINDS] == [1.5, 0.75, 0.75, 1, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Link(alpha_s=-1e-6, bytes_per_s=1e9),
        lambda: Link(alpha_s=0, bytes_per_s=0),
        lambda: Link(alpha_s=math.nan, bytes_per_s=1e9),
        lambda: Fabric(inner=LINK, outer=LINK, ranks_per_node=0),
        lambda: ring_all_reduce(LINK, 0, 1e3),
        lambda: seconds(NODES, "all-reduce", 2, -1),
    ],
)
def test_what_cannot_be_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match="expected"):
        wrong()


def noisy(link: Link, num_ranks: int, noise: float, seed: int = 0) -> list[tuple[int, list[float]]]:
    draw = np.random.default_rng(seed)
    return [
        (size, [ring_all_reduce(link, num_ranks, size) * math.exp(noise * draw.standard_normal()) for _ in range(15)])
        for size in SIZES
    ]


def test_alpha_and_beta_come_back_exactly_without_noise() -> None:
    fitted = fit_ring(noisy(LINK, 4, 0), 4)
    assert fitted.link.alpha_s == pytest.approx(LINK.alpha_s)
    assert fitted.link.bytes_per_s == pytest.approx(LINK.bytes_per_s)
    assert typical_error(fitted).median == pytest.approx(0, abs=1e-9)


def test_their_intervals_hold_the_truth_nine_times_in_ten() -> None:
    fits = [fit_ring(noisy(LINK, 2, 0.1, seed), 2) for seed in range(40)]
    for name, truth in (("alpha", LINK.alpha_s), ("bytes_per_s", LINK.bytes_per_s)):
        held = [getattr(one, name).low <= truth <= getattr(one, name).high for one in fits]
        assert np.mean(held) >= 0.85, name


def test_times_that_no_line_explains_leave_an_error() -> None:
    """The negative control: a library that changes its way at a size is not alpha + bytes * beta."""
    times = [(size, [one * (8 if size == SIZES[2] else 1) for one in taken]) for size, taken in noisy(LINK, 2, 0)]
    assert max(abs(error) for _, error in fit_ring(times, 2).errors) > 0.4


@pytest.mark.parametrize(
    ("times", "ranks"),
    [
        (noisy(LINK, 2, 0), 1),
        (noisy(LINK, 2, 0)[:2], 2),
        ([(size, [0.0]) for size in SIZES], 2),
        ([(size, []) for size in SIZES], 2),
    ],
)
def test_too_little_to_fit_is_refused(times: list[tuple[int, list[float]]], ranks: int) -> None:
    with pytest.raises(UsageError, match="measure"):
        fit_ring(times, ranks)
