"""A step is computing, sending that nothing hides, and waiting: limits, closed forms, and what the range holds."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.measure.network import Fabric, Link, ring_all_reduce
from harness.predict.hardware import Outlook, fabric, gpu
from harness.predict.prediction import BACKWARD_SHARE, Setup, exposed, predict, step
from harness.predict.volumes import BUCKET_BYTES, Scheme, Sizes

ENDLESS = Link(alpha_s=0, bytes_per_s=1e30)
SLOW = Link(alpha_s=1e-4, bytes_per_s=1e9)
FREE = Fabric(inner=ENDLESS, outer=ENDLESS, ranks_per_node=8)
DEAR = Fabric(inner=SLOW, outer=SLOW, ranks_per_node=8)
SCHEMES: tuple[Scheme, ...] = (
    "all-reduce",
    "optimizer-shards",
    "gradient-shards",
    "parameter-shards",
    "one-master",
    "server",
    "pipeline",
    "tensor",
)
SIZES = Sizes(gradient_bytes=1e8, parameter_bytes=1e8, cut_bytes=1e5, pair_bytes=1e5)


def setup(scheme: Scheme = "all-reduce", **changes: Any) -> Setup:
    return Setup(**{"scheme": scheme, "sizes": SIZES, "sample_s": 1e-3, "batch": 64, **changes})


def v100(outlook: Outlook) -> Fabric:
    return fabric(gpu("v100"), "100gbps", outlook)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_rank_takes_what_it_computes(scheme: Scheme) -> None:
    (alone,) = predict(setup(scheme), v100, [1])
    assert alone.step_s.low == alone.step_s.likely == alone.step_s.high == pytest.approx(0.064)
    assert alone.speedup.likely == alone.efficiency.high == 1
    assert alone.limit == "computing"


@pytest.mark.parametrize("scheme", set(SCHEMES) - {"pipeline"})
def test_over_endless_links_every_scheme_is_ideal(scheme: Scheme) -> None:
    (eight,) = predict(setup(scheme), lambda _: FREE, [8])
    assert eight.speedup.likely == pytest.approx(8)


def test_weak_scaling_keeps_a_ranks_batch_and_strong_scaling_that_of_all() -> None:
    weak, strong = step(setup(), FREE, 8), step(setup(scaling="strong"), FREE, 8)
    assert weak.total_s == pytest.approx(0.064)
    assert strong.total_s == pytest.approx(0.008)


def test_one_bucket_is_sent_when_backward_has_ended() -> None:
    found = step(setup(bucket_bytes=1e9), DEAR, 4)
    assert found.exposed_s == pytest.approx(ring_all_reduce(SLOW, 4, 1e8))


def test_without_overlap_all_sending_is_exposed() -> None:
    found = step(setup(overlap=False), DEAR, 4)
    assert found.exposed_s == pytest.approx(found.sending_s)


def test_sending_that_outlasts_backward_queues() -> None:
    """The network is busy from the first bucket on: only that bucket's computing is hidden on top."""
    found = step(setup(), DEAR, 4)
    backward_s, pieces = BACKWARD_SHARE * 0.064, -(-1e8 // BUCKET_BYTES)
    assert found.exposed_s == pytest.approx(found.sending_s - backward_s * (1 - 1 / pieces))


@given(phase=st.floats(1e-6, 10), pieces=st.integers(1, 200), piece=st.floats(0, 1), more=st.floats(1, 10))
def test_what_is_exposed_lies_between_one_piece_and_all(phase: float, pieces: int, piece: float, more: float) -> None:
    found = exposed(phase, pieces, piece)
    assert piece <= found <= pieces * piece * (1 + 1e-9) + 1e-12
    assert exposed(phase, pieces, piece * more) >= found
    assert exposed(phase * more, pieces, piece) <= found + 1e-9


def test_a_pipeline_over_endless_links_loses_its_bubble_alone() -> None:
    """Huang et al. 2019: efficiency m / (m + n - 1)."""
    (four,) = predict(setup("pipeline", micro_batches=8), lambda _: FREE, [4])
    assert four.efficiency.likely == pytest.approx(8 / 11)
    assert four.limit == "pipeline bubble: 4 stages, 8 micro-batches"


def test_recomputing_costs_a_third_of_what_is_recomputed() -> None:
    never, always = (step(setup("pipeline", micro_batches=4, recompute=how), FREE, 1) for how in ("never", "always"))
    except_last = step(setup("pipeline", micro_batches=4, recompute="except-last"), FREE, 1)
    assert always.total_s == pytest.approx(4 / 3 * never.total_s)
    assert except_last.total_s == pytest.approx((1 + 0.75 / 3) * never.total_s)


@given(scheme=st.sampled_from(SCHEMES), ranks=st.sampled_from([2, 5, 8, 16, 64, 1_000]))
def test_the_range_holds_the_likely_value_and_nobody_scales_better_than_ideal_by_much(
    scheme: Scheme, ranks: int
) -> None:
    (found,) = predict(setup(scheme), v100, [ranks])
    for one in (found.step_s, found.speedup, found.efficiency):
        assert 0 < one.low <= one.likely <= one.high
    assert found.efficiency.likely <= 1 + 1e-9
    assert found.efficiency.high <= 1.05


@pytest.mark.parametrize("scheme", ["all-reduce", "gradient-shards", "parameter-shards", "server"])
def test_efficiency_falls_with_ranks_and_with_slower_links(scheme: Scheme) -> None:
    several = predict(setup(scheme), v100, [2, 8, 16, 64, 1_024])
    shares = [one.efficiency.likely for one in several]
    assert shares == sorted(shares, reverse=True)
    slow = predict(setup(scheme), lambda outlook: fabric(gpu("v100"), "10gbps", outlook), [64])[0]
    assert slow.efficiency.likely < several[3].efficiency.likely
    assert slow.limit == "bandwidth between nodes"


def test_small_messages_are_limited_by_latency() -> None:
    tiny = dataclasses.replace(SIZES, gradient_bytes=4e3)
    assert step(setup(sizes=tiny, sample_s=1e-7), DEAR, 4).latency_s > 0
    (found,) = predict(setup(sizes=tiny, sample_s=1e-7), lambda _: DEAR, [4])
    assert found.limit == "latency within the node"


@pytest.mark.parametrize(
    ("changes", "ranks", "said"),
    [
        ({"batch": 0}, 2, "batch above zero"),
        ({"sample_s": float("nan")}, 2, "sample_s above zero"),
        ({"scaling": "strong"}, 65, "a sample a rank or more"),
        ({}, 0, "at least one rank"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], ranks: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        step(setup(**changes), FREE, ranks)
