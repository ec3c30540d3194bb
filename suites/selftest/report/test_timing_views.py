"""The page says how a case was timed, what its speed-up lost where, and where its ranks' time goes."""

from __future__ import annotations

import msgspec

from fixtures.sample_records import interval, record, timing
from harness.report import timing_charts, timing_views, words
from harness.timings import (
    Breakdown,
    Communication,
    Interval,
    Loss,
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
LOSSES = (
    Loss(name="batch", factor=interval(1.05), words="5.0% gained: a smaller batch"),
    Loss(name="machine", factor=interval(0.9), words="10.0% lost: side by side"),
    Loss(name="ranks", factor=interval(0.95), words="5.0% lost: together"),
)


def explained(**changes: object) -> Timing:
    settings: dict[str, object] = {
        "breakdown": Breakdown(ranks=RANKS, alone=RANKS[1], num_steps=12, accounted=0.998, exposed=interval(0.02)),
        "losses": LOSSES,
        "sampling": Sampling(num_rounds=14, precision=0.02, reached=0.031, stopped="budget", num_needed=34),
        "share": Share(num_cores=2, num_threads=2, device="cpu", memory_bytes=2**34),
    }
    return msgspec.structs.replace(timing(1.8), **(settings | changes))


def test_what_is_lost_and_where_the_time_goes_are_two_pictures() -> None:
    one = record(timing=explained())
    assert one.timing is not None
    lost, parts = timing_views.figures(one, one.timing)
    assert lost[0] == "From ideal to measured"
    assert "Batch: 5.0% gained: a smaller batch. Machine: 10.0% lost: side by side." in lost[1]
    assert "100 % of it is accounted for" in parts[1]
    assert f"computing does not hide, is at least {words.seconds(0.02)} [" in parts[1]
    assert parts[2].count(">rank ") == 2
    assert ">alone<" in parts[2]


def test_a_struck_case_shows_no_way_from_the_ideal_to_a_speed_up() -> None:
    one = record(timing=explained(struck="it left serial training", speedup=None, efficiency=None))
    assert one.timing is not None
    assert [title for title, _, _ in timing_views.figures(one, one.timing)] == ["Where the time goes"]
    assert timing_views.figures(one, timing(1.8)) == []


def test_the_bars_of_the_losses_multiply_down_to_the_speed_up() -> None:
    drawn = timing_charts.losses(2, LOSSES)
    shown = [f"{value:.2f}x" for value in (2.0, 2.1, 1.89, 1.7955)]
    assert [figure in drawn for figure in shown] == [True] * 4
    assert drawn.count('class="lost"') == 2
    assert drawn.count('class="gained"') == 1


def test_parts_that_are_nothing_stay_out_of_the_key() -> None:
    drawn = timing_charts.parts([("rank 0", RANKS[0])])
    assert "optimizer</text>" in drawn
    assert "idle</text>" not in drawn
    assert "waiting for ranks</text>" not in drawn


def test_why_timing_ended_is_said_with_what_it_would_take() -> None:
    told = timing_views.sampled(Sampling(num_rounds=14, precision=0.02, reached=0.031, stopped="budget", num_needed=34))
    assert told == (
        "14 rounds timed, until the time was up: the speed-up is known to ±3.1 %, ±2.0 % was asked; about 34 rounds "
        "would do."
    )
    precise = timing_views.sampled(Sampling(num_rounds=8, precision=0.02, reached=0.015, stopped="precise"))
    assert precise == "8 rounds timed, until the speed-up was known to ±2.0 % (±1.5 %)."


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
