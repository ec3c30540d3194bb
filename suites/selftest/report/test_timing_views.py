"""What is said of a timed case: how it was timed, where its ranks' time goes, what it used."""

from __future__ import annotations

import math

import msgspec
import pytest

from fixtures.sample_records import interval, record, timing
from harness.report import words
from harness.report.sections import timing_views
from harness.timings import (
    Breakdown,
    Communication,
    Interval,
    Part,
    Pipeline,
    Sampling,
    Share,
    Timing,
    Used,
)

RANKS: tuple[dict[Part, float], ...] = (
    {"data": 0.02, "forward": 0.11, "backward": 0.2, "optimizer": 0.03, "idle": 0.0, "other": 0.001},
    {"data": 0.02, "forward": 0.10, "backward": 0.19, "optimizer": 0.03, "idle": 0.02, "other": 0.001},
)


def explained(**changes: object) -> Timing:
    settings: dict[str, object] = {
        "breakdown": Breakdown(ranks=RANKS, alone=RANKS[1], num_steps=12, accounted=0.998, exposed=interval(0.02)),
        "sampling": Sampling(num_rounds=14, precision=0.02, reached=0.031, stopped="budget", num_needed=34),
        "share": Share(num_cores=2, num_threads=2, device="cpu", memory_bytes=2**34),
    }
    return msgspec.structs.replace(timing(1.8), **(settings | changes))


def test_the_parts_of_an_epoch_say_how_they_were_found_and_what_they_come_to() -> None:
    parts = explained().breakdown
    assert parts is not None
    told = timing_views.breakdown(parts)
    assert told.startswith("Mean seconds of an epoch of 12 steps. 100 % of it is accounted for.")
    assert f"computing does not hide, is at least {words.seconds(0.02)} [" in told
    assert "Alone" in told
    lone = timing_views.breakdown(msgspec.structs.replace(parts, alone={}, exposed=None))
    assert "Alone" not in lone
    assert "hide" not in lone


def test_waiting_that_came_out_below_nothing_is_nothing() -> None:
    parts = explained().breakdown
    assert parts is not None
    below = msgspec.structs.replace(parts, exposed=Interval(median=-0.01, low=-0.02, high=0.01))
    assert "is at least 0 ms [0 ms, 10.0 ms]" in timing_views.breakdown(below)


def test_a_case_that_was_merely_timed_has_nothing_more_to_say() -> None:
    """The negative control of all sentences here."""
    assert timing_views.sentences(timing(1.8)) == []
    assert timing_views.facts(timing(1.8)) == {}


def test_efficiency_over_another_serial_run_says_so() -> None:
    told = timing_views.sentences(timing(1.8, efficiency_over="per-rank batch"))
    assert any("Efficiency is over serial at the per-rank batch" in line for line in told)


def test_of_very_many_ranks_the_slowest_say_what_they_used() -> None:
    used = tuple(
        Used(rank=rank, wall_s=1.0, cpu_s=1.0, memory_bytes=2**20, peak_memory_bytes=2**20) for rank in range(20)
    )
    own_s = tuple((1.0 + 0.01 * rank,) * 3 for rank in range(20))
    found = timing_views.facts(timing(1.8, used=used, epoch_s=own_s))
    assert [name for name in found if name.startswith("used by")] == [f"used by rank {rank}" for rank in range(12, 20)]
    assert found["use told of"] == "the 8 slowest of 20 ranks"


@pytest.mark.parametrize("bad", [0.0, -1.0, 1e308, math.nan])
def test_what_cannot_be_a_time_is_refused_in_words(bad: float) -> None:
    one = Communication(rank=0, num_calls=1, num_bytes=8, busy_s=bad, exposed_s=bad, epoch_s=bad)
    timed = explained(communication=(one,), epoch_wall_s=(bad, bad))
    assert timing_views.sentences(timed) == ["What was recorded as a time is none, so nothing is said of it."]
    assert words.struck(record(timing=timed)) == "no speed-up: what was recorded as a time is none"
    # The negative control: where the epochs are times, only that collective is left out.
    sound = timing_views.sentences(explained(communication=(one,)))
    assert sound
    assert not any("collective" in line for line in sound)


def test_why_timing_ended_is_said_with_what_it_would_take() -> None:
    told = timing_views.sampled(Sampling(num_rounds=14, precision=0.02, reached=0.031, stopped="budget", num_needed=34))
    assert told == (
        "14 rounds timed, until the time was up: the speed-up is known to ±3.1 %, ±2.0 % was asked; about 34 rounds "
        "would do."
    )
    precise = timing_views.sampled(Sampling(num_rounds=8, precision=0.02, reached=0.015, stopped="precise"))
    assert precise == "8 rounds timed, until the speed-up was known to ±2.0 % (±1.5 %)."
    lost = timing_views.sampled(Sampling(num_rounds=2, precision=0.02, reached=float("nan"), stopped="budget"))
    assert lost == "2 rounds timed, until the time was up: no precision can be told from it."


def test_collectives_and_stages_are_told_in_a_sentence_each() -> None:
    one = Communication(
        rank=0,
        num_calls=12,
        num_bytes=2**20,
        busy_s=0.1,
        exposed_s=0.05,
        epoch_s=1.0,
        bus_bytes_per_s=2.0**30,
        link_bytes_per_s=2.0**31,
    )
    pipe = Pipeline(busy_s=(0.5, 0.4), epoch_s=1.0, num_micro_batches=4, ideal=0.8, efficiency=0.45)
    told = timing_views.sentences(explained(communication=(one,), pipeline=pipe))
    assert any("12 collectives, 1.00 MiB, under way for 10 % of it, 5 % with nothing" in line for line in told)
    assert any("Bus bandwidth 1.00 GiB/s" in line and "2.00 GiB/s" in line for line in told)
    assert any("busy 45 % of the time; 2 equal stages and 4 micro-batches would be 80 %" in line for line in told)


def test_a_claim_below_what_the_machine_resolves_is_taken_back_wherever_it_is_read() -> None:
    small = Interval(median=1.02, low=1.01, high=1.03)
    one = explained(speedup=small, claim="inconclusive")
    assert words.claimed(one) == "1.02x [1.01, 1.03], not told apart"
    assert any("not told apart from none" in line for line in timing_views.sentences(one))
    assert words.claimed(explained(speedup=small, claim="faster")) == "1.02x [1.01, 1.03]"
    assert words.claimed(explained(speedup=small, oversubscribed=True)) == "1.02x [1.01, 1.03], cores shared"


def test_what_a_rank_owns_and_used_are_facts() -> None:
    used = Used(rank=0, wall_s=10.0, cpu_s=9.0, memory_bytes=2**20, peak_memory_bytes=2**21, energy_j=100.0)
    found = timing_views.facts(explained(used=(used,)))
    assert found["a rank owns"] == "2 cores, 2 threads"
    assert found["used by rank 0"].startswith("0.90 cores busy")
    assert "samples per joule" in found["energy"]
    assert "energy" not in timing_views.facts(explained())
