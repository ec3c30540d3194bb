"""The words and numbers that every report shares."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.sample_records import divergence, interval, record, timing, verdict
from harness.report import words
from harness.timings import Interval, Used


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.0123, "0.0123"),
        (1.5, "1.50"),
        (412.4, "412"),
        (12345.6, "12,346"),
        (4.05e13, "4.05e13"),
        (1e-15, "1e-15"),
        (math.nan, "not a number"),
        (math.inf, "infinite"),
        (-math.inf, "-infinite"),
        (1.7976931348623157e308, "infinite"),
    ],
)
def test_numbers_have_three_significant_digits(value: float | None, shown: str) -> None:
    assert words.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0000021, "2.10 us"),
        (0.0412, "41.2 ms"),
        (1.234, "1.23 s"),
        (119.0, "119 s"),
        (754.0, "12 min 34 s"),
        (0.0, "0 ms"),
        (math.nan, "not a number"),
    ],
)
def test_durations_have_the_unit_that_reads_best(value: float, shown: str) -> None:
    assert words.seconds(value) == shown


def test_speed_up_and_efficiency_come_with_their_intervals() -> None:
    assert words.speedup(Interval(median=1.716, low=1.652, high=1.789)) == "1.72x [1.65, 1.79]"
    assert words.efficiency(Interval(median=0.858, low=0.826, high=0.894)) == "86 % [83, 89]"
    assert words.speedup(None) == words.efficiency(None) == "-"


@given(st.floats(), st.floats(), st.floats())
def test_every_figure_can_be_worded(median: float, low: float, high: float) -> None:
    figure = Interval(median=median, low=low, high=high)
    for shown in (words.speedup(figure), words.efficiency(figure)):
        assert shown
        assert len(shown) < 120
    assert words.seconds(median)
    assert words.bytes_size(median)
    assert words.together(words.speedup(figure)).replace("\u00a0", " ") == words.speedup(figure)


@pytest.mark.parametrize(("number", "shown"), [(0, "0 cases"), (1, "1 case"), (2, "2 cases"), (12_000, "12,000 cases")])
def test_counts_agree_with_their_noun(number: int, shown: str) -> None:
    assert words.count(number, "case") == shown


def test_long_lists_are_cut_and_say_how_many_are_left() -> None:
    assert words.listing(["a"]) == "a"
    assert words.listing(["a", "b", "c"]) == "a, b and c"
    assert words.listing(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_a_very_long_name_is_cut_in_the_middle_and_both_ends_stay() -> None:
    name = "a" * 100 + "z" * 100
    shown = words.short(name)
    assert len(shown) < 90
    assert shown.startswith("aaa")
    assert shown.endswith("zzz")
    assert words.listing([name, "b"]) == f"{shown} and b"
    assert words.short("a" * 80) == "a" * 80, "negative control"


def test_marks_that_act_unseen_are_shown() -> None:
    assert words.visible("a\u202eb\x1b[31m\u2066\x7f") == "a?b?[31m??"
    plain = "größer als 1\u00a0%\n\tx"
    assert words.visible(plain) == plain, "negative control"


def test_a_divergence_names_rung_step_rank_tensor_and_size() -> None:
    assert words.divergence(divergence(4e13)) == (
        "First divergence: gradients before clipping, step 0, rank 1, conv1.weight. Difference 0.048, "
        "4e13 times the threshold of 1.2e-15; rounding alone 1.2e-17."
    )
    assert "before the first step, rank 1" in words.divergence(divergence(step=-1))


def test_a_case_held_against_a_second_reference_shows_its_distance_from_plain() -> None:
    judged = verdict(reference="per-shard-batchnorm", plain=divergence(6e11, "loss", 1))
    told = words.by_design(record(evidence=judged))
    assert told is not None
    assert told.startswith("Judged against the named reference per-shard-batchnorm. ")
    assert "differs by design: 7.2e-4 in loss (step 1, rank 1, conv1.weight)" in told
    assert words.by_design(record()) is None


def test_a_time_is_struck_wherever_it_is_no_speed_up() -> None:
    assert words.struck(record(timing=timing(1.7))) is None
    assert words.struck(record()) is None
    assert words.struck(record(timing=timing(1.7, struck="oversubscribed"))) == "no speed-up: oversubscribed"
    for conclusion in ("different", "inconclusive", "not-verified"):
        found = words.struck(record(conclusion=conclusion, timing=timing(1.7)))
        assert found == f"no speed-up: {words.VERDICT[conclusion]}"


def test_the_closest_call_stands_beside_what_is_allowed() -> None:
    assert words.closest_call(record(evidence=verdict(margin=1.31), margin=1.31)) == "1.3 of 100"
    assert words.closest_call(record(margin=None)) == "-"


def test_the_first_line_of_a_reason_is_its_headline() -> None:
    reason = "\nrank 1 was killed by SIGKILL\n  File 'x.py'\n    loss.backward()\n"
    assert words.headline(reason) == "rank 1 was killed by SIGKILL"
    assert words.evidence(reason) == "  File 'x.py'\n    loss.backward()"
    assert words.headline("") == "no reason was recorded"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("peak_memory_bytes", 412_000_000, ("peak memory", "393 MiB")),
        ("num_cores", 2, ("cores", "2")),
        ("version_torch", "2.15.0", ("torch", "2.15.0")),
        ("setup_s", 0.25, ("setup", "250 ms")),
        ("load_average", 0.42, ("load average", "0.420")),
    ],
)
def test_facts_are_shown_with_their_unit(name: str, value: str | float, shown: tuple[str, str]) -> None:
    assert words.fact(name, value) == shown


def test_a_line_never_breaks_inside_an_interval() -> None:
    assert words.together("fastest 1.72x [1.65, 1.79] on 2 ranks, 86 % [83, 89]") == (
        "fastest 1.72x\u00a0[1.65,\u00a01.79] on 2 ranks, 86\u00a0%\u00a0[83,\u00a089]"
    )


@pytest.mark.parametrize(
    ("iso", "shown"),
    [
        ("2026-11-20T10:15:02Z", "20 Nov 2026, 10:15 UTC"),
        ("2026-11-20T10:15:02+00:00", "20 Nov 2026, 10:15 UTC"),
        ("yesterday", "yesterday"),
    ],
)
def test_times_are_shown_for_people(iso: str, shown: str) -> None:
    assert words.moment(iso) == shown


@pytest.mark.parametrize(
    ("started", "ended", "shown"),
    [
        ("2026-11-20T10:15:02Z", "2026-11-20T10:19:14Z", "4 min 12 s"),
        ("2026-11-20T10:15:02Z", "", ""),
        ("2026-11-20T10:15:02Z", "2026-11-20T10:15:00Z", ""),
        ("2026-11-20T10:15:02Z", "2026-11-20T10:15:02Z", ""),
        ("2026-11-20T10:15:02Z", "2026-11-20T10:16:00", ""),
    ],
)
def test_how_long_a_run_took_is_told_where_it_is_known(started: str, ended: str, shown: str) -> None:
    assert words.lasted(started, ended) == shown


def test_the_sample_interval_is_around_its_median() -> None:
    assert interval(2.0).low < 2.0 < interval(2.0).high


def test_what_a_rank_used_leaves_out_what_could_not_be_read() -> None:
    used = Used(rank=0, wall_s=2.0, cpu_s=1.9, memory_bytes=3 << 29, peak_memory_bytes=1 << 31)
    assert words.used(used) == "0.95 cores busy, 1.50 GiB, at most 2.00 GiB"
    on_gpu = msgspec.structs.replace(used, gpu_memory_bytes=1 << 30, gpu_utilisation=0.5, energy_j=310.4)
    assert words.used(on_gpu).endswith("at most 2.00 GiB, GPU 50 % busy, 1.00 GiB on it, 310 J")
