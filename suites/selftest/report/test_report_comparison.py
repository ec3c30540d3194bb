"""Two runs held against each other: like with like, or refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fixtures.sample_records import ENVIRONMENT, RUN, hostile, record, sample, skipped, timing
from harness import store
from harness.errors import UsageError
from harness.record import Record
from harness.report import Comparison, compare, words
from harness.report.compared.comparison_lines import failures, lines
from harness.report.compared.sides import chosen
from harness.store import Run, RunInfo
from harness.timings import Share


def run_of(*records: Record, started: str = "", **environment: Any) -> Run:
    info = RunInfo(id=RUN, started=started, environment=ENVIRONMENT | environment)
    return Run(directory=Path(RUN), info=info, records=records)


def test_a_run_equals_itself() -> None:
    found = compare(run_of(*sample()), run_of(*sample()))
    assert not found.environment
    assert not found.verdicts
    assert {speed.outcome for speed in found.speeds} <= {"pass", "inconclusive"}
    assert len(found.speeds) == 9
    (refused,) = found.refused
    assert refused.case == "digits-cnn/tf-mirrored/2/cpu", "a struck case is never compared"


def test_where_the_runs_took_place_comes_first_then_verdicts_then_speed() -> None:
    a = run_of(record(timing=timing(1.7)))
    b = run_of(record(conclusion="different", timing=timing(1.7)), torch="2.16.0")
    told = lines(compare(a, b))
    order = [told.index(title) for title in ("environment", "verdicts", "time per epoch", "not compared")]
    assert order == sorted(order)
    assert any(line.split() == ["torch", "2.15.0", "2.16.0"] for line in told)
    assert any("equivalent" in line and "different" in line for line in told)


@pytest.mark.parametrize(("factor", "outcome"), [(1.6, "slower"), (0.5, "faster"), (1.0, "inconclusive")])
def test_a_change_of_speed_is_told_only_beyond_its_interval(factor: float, outcome: str) -> None:
    a = run_of(record(timing=timing(1.7, typical_s=1.0)))
    b = run_of(record(timing=timing(1.7, typical_s=factor, seed=5)))
    found = compare(a, b)
    (speed,) = found.speeds
    assert (speed.outcome, speed.relation) == (outcome, "code")
    assert speed.ratio.median == pytest.approx(factor, rel=0.05)
    assert any(speed.words in line for line in lines(found)) == (outcome == "slower")


def test_other_runs_tell_how_runs_differ() -> None:
    a, b = (
        run_of(record(timing=timing(1.7, seed=seed, typical_s=1 + 0.15 * seed), run=f"run {seed}")) for seed in range(2)
    )
    assert compare(a, b).speeds[0].outcome != "slower"
    others = [
        run_of(record(timing=timing(1.7, seed=seed, typical_s=1.0), run=f"run {seed}")) for seed in range(13, 1, -1)
    ]
    assert compare(a, b, others=others).speeds[0].outcome == "slower"
    assert compare(a, b, others=others, floor=0.3).speeds[0].outcome != "slower"


def test_other_versions_are_refused_unless_that_is_allowed() -> None:
    a = run_of(record(timing=timing(1.7)))
    b = run_of(record(timing=timing(1.7), environment=ENVIRONMENT | {"torch": "2.16.0"}))
    found = compare(a, b)
    (refused,) = found.refused
    assert "torch 2.15.0 before, 2.16.0 now" in refused.reason
    (speed,) = found.speeds
    assert (speed.relation, speed.outcome) == ("unlike", None)
    assert "on unlike versions: torch 2.15.0 against 2.16.0: this tells nothing of the code" in speed.words
    assert [speed.relation for speed in compare(a, b, allow=["versions"]).speeds] == ["code"]


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (
            record(timing=timing(1.7)),
            record(timing=timing(1.7), workload_digest="other"),
            "workload digest 0a1b2c3d4e5f before, other now",
        ),
        (record(timing=timing(1.7)), record("torch-dp"), "only in A"),
        (record("torch-dp"), record(timing=timing(1.7)), "only in B"),
        (record(timing=timing(1.7)), record(), "not timed now"),
        (
            record(timing=timing(1.7, struck="shared cores")),
            record(timing=timing(1.7)),
            "struck out (shared cores) before",
        ),
        (record(timing=timing(1.7)), record(conclusion="different", timing=timing(1.7)), "struck out (different) now"),
        (
            record(timing=timing(1.7, epoch_wall_s=(1.0,))),
            record(timing=timing(1.7)),
            "1 epoch where an interval needs 2 before",
        ),
        (record(timing=timing(1.7, epoch_wall_s=(1.0, float("nan")))), record(timing=timing(1.7)), "not a positive"),
    ],
)
def test_unlike_cases_are_refused_by_name(a: Record, b: Record, reason: str) -> None:
    found = compare(run_of(a), run_of(b))
    assert not found.speeds
    (refused,) = found.refused
    assert refused.case == "digits-mlp/torch-ddp/2/cpu"
    assert reason in refused.reason


@pytest.mark.parametrize(
    ("b", "told"),
    [
        ([record("torch-dp", timing=timing(1.7)), record(conclusion="different")], "not timed now (different: "),
        ([record("torch-dp", timing=timing(1.7)), record(timing=timing(1.7, struck="shared"))], "struck out (shared)"),
        ([record("torch-dp", timing=timing(1.7))], "only in A"),
        ([], "nothing was compared"),
    ],
)
def test_a_case_that_can_no_longer_be_compared_is_no_pass(b: list[Record], told: str) -> None:
    a = run_of(record(timing=timing(1.7)), record("torch-dp", timing=timing(1.7)))
    now = dataclasses.replace(run_of(*b), directory=Path("b"))
    assert any(told in line for line in failures(compare(a, now)))
    # The negative control: all of A's cases are there.
    assert not failures(compare(a, dataclasses.replace(a, directory=Path("b"))))


def test_a_case_whose_time_was_struck_before_is_not_missed() -> None:
    struck, fine = record(timing=timing(1.7, struck="shared")), record("torch-dp", timing=timing(1.7))
    assert not failures(compare(run_of(struck, fine), dataclasses.replace(run_of(fine), directory=Path("b"))))


def test_a_run_against_itself_says_so() -> None:
    run = run_of(record(timing=timing(1.7)))
    found = compare(run, run)
    assert "A and B are one and the same run" in lines(found)
    assert "one and the same run" in failures(found)[0]
    assert found.headline == "All sides are one and the same run."


def test_a_case_that_neither_run_timed_is_not_complained_about() -> None:
    assert not compare(run_of(record()), run_of(record(), skipped("x", "y", 2, "no"))).refused


def test_a_case_that_only_one_run_holds_is_a_change_of_verdict() -> None:
    found = compare(run_of(record()), run_of(record(), record("torch-threads")))
    (change,) = found.verdicts
    assert (change.case, change.kind) == ("digits-mlp/torch-threads/2/cpu", "new")
    assert change.verdicts == ("not in this run", "equivalent")


def test_the_gravest_change_of_a_verdict_comes_first() -> None:
    names = ("torch-ddp", "torch-dp", "torch-zero1", "torch-fsdp")
    before = [record(name, conclusion="different" if name == "torch-dp" else "equivalent") for name in names]
    now = [record(), record("torch-dp"), record("torch-zero1", conclusion="different"), record("horovod-torch")]
    found = compare(run_of(*before), dataclasses.replace(run_of(*now), directory=Path("b")))
    kinds = [change.kind for change in found.verdicts]
    assert kinds == ["now different", "now equivalent", "no longer run", "new"]
    assert found.counts == dict.fromkeys(kinds, 1)
    assert "conv1.weight" in found.verdicts[0].reason
    assert found.verdicts[2].reason == "", "what it was before is no reason"
    assert "1 is now different (digits-mlp/torch-zero1/2/cpu), 1 is now equivalent, 1 was not run, 1 is new" in (
        found.headline
    )


def test_the_headline_says_since_when_what_got_slower_and_where_else_it_ran() -> None:
    a = run_of(record(timing=timing(1.7, typical_s=1.0)), started="2026-11-13T10:15:02Z", torch="2.14.0")
    b = run_of(record(timing=timing(1.7, typical_s=1.6, seed=5)), started="2026-11-20T10:15:02Z", gpu_model="H200")
    found = compare(a, dataclasses.replace(b, directory=Path("b")))
    (speed,) = found.speeds
    assert found.headline == (
        f"Since 13 Nov: 1 case got slower (digits-mlp/torch-ddp/2/cpu {words.speedup(speed.ratio)} the time); "
        "gpu model none -> H200 and torch 2.14.0 -> 2.15.0. Ratios of times are with their 99 % interval."
    )
    assert [fact.group for fact in found.environment] == ["machine", "versions"], "the machine first"
    assert lines(found)[-1] == found.headline


def test_nothing_changed_is_said_in_words() -> None:
    found = compare(run_of(record()), dataclasses.replace(run_of(record()), directory=Path("b")))
    assert "no verdict changed" in found.headline
    steady = timing(1.7, epoch_wall_s=(1.0,) * 40)
    others = [run_of(record(timing=steady, run=f"run {number}")) for number in range(12, 0, -1)]
    runs = [run_of(record(timing=steady, run=name)) for name in ("a", "b")]
    found = compare(runs[0], dataclasses.replace(runs[1], directory=Path("b")), others=others)
    assert "nothing got slower, faster or different" in found.headline
    apart = compare(run_of(record()), dataclasses.replace(run_of(), directory=Path("b")))
    assert "1 was not run" in apart.headline
    assert "no case is in both" in compare(run_of(), dataclasses.replace(run_of(), directory=Path("b"))).headline


def test_three_runs_are_each_held_against_the_first() -> None:
    runs = [
        dataclasses.replace(
            run_of(record(timing=timing(1.7, typical_s=times, seed=number))), directory=Path(str(number))
        )
        for number, times in enumerate((1.0, 1.7, 0.5))
    ]
    found = compare(*runs)
    assert [(speed.letter, speed.outcome) for speed in found.speeds] == [("B", "slower"), ("C", "faster")]
    assert [side.letter for side in found.sides] == ["A", "B", "C"]
    assert failures(found) == ["slower: digits-mlp/torch-ddp/2/cpu in B"]
    assert "time per epoch, C against A" in lines(found)
    assert "B since" in found.headline
    assert "C since" in found.headline


def test_of_three_runs_each_says_which_verdict_changed() -> None:
    runs = [run_of(record()), run_of(record()), run_of(record(conclusion="different"))]
    found = compare(*(dataclasses.replace(run, directory=Path(str(number))) for number, run in enumerate(runs)))
    (change,) = found.verdicts
    assert change.verdicts == ("equivalent", "equivalent", "different")
    of_b, of_c = found.headline.split(" C since ")
    assert "different (" not in of_b
    assert "1 is now different" in of_c


def test_many_cases_that_one_run_lacks_do_not_bury_what_changed() -> None:
    lost = [record("torch-ddp", f"work{number}") for number in range(20)]
    found = compare(run_of(record(), *lost), run_of(record(conclusion="different")))
    told = "\n".join(lines(found))
    assert len(found.verdicts) == 21
    assert "work7" not in told
    assert "20 cases are not on every side: work0/torch-ddp/2/cpu" in told


def programs(a: str = "torch-ddp", b: str = "tf-mirrored", *records: Record) -> Comparison:
    run = run_of(
        *(
            records
            or (record(timing=timing(1.7, typical_s=1.0)), record("tf-mirrored", timing=timing(1.2, typical_s=2.0)))
        )
    )
    return compare(chosen(run, a), chosen(run, b))


def test_two_strategies_of_one_run_meet_as_two_programs() -> None:
    found = programs()
    (speed,) = found.speeds
    assert (speed.case, speed.relation, speed.outcome) == ("digits-mlp/2/cpu", "programs", "slower")
    assert speed.words.endswith("these are two programs")
    assert "tf-mirrored slower: " in speed.words
    assert f"{words.number(1437 / 2)} samples/s against {words.number(1437)}" in speed.words
    assert speed.before_speedup is not None
    assert speed.to_serial is None, "serial training in another framework is no common measure"
    assert found.headline.startswith("tf-mirrored against torch-ddp, two programs: 1 case is slower (digits-mlp/2/cpu")
    assert not found.environment
    assert not found.verdicts
    assert not found.same
    assert any(speed.words in line for line in lines(found))


def test_verdicts_of_two_programs_are_no_change_in_time() -> None:
    found = programs("torch-ddp", "tf-mirrored", record(), record("tf-mirrored", conclusion="different"))
    assert [change.kind for change in found.verdicts] == ["unlike"]
    assert "1 has another verdict" in found.headline
    alone = programs("torch-ddp", "torch-dp", record("torch-dp", "digits-cnn"), record("torch-dp"), record())
    assert "1 was run by it alone" in alone.headline


def test_a_strategy_is_named_on_all_sides_or_on_none() -> None:
    run = run_of(record(), record("torch-dp"))
    with pytest.raises(UsageError, match="expected a strategy on each side or on none but got torch-ddp, none"):
        compare(chosen(run, "torch-ddp"), chosen(run))
    with pytest.raises(UsageError, match="expected 2 to 26 sides but got 1"):
        compare(run)


def test_one_strategy_of_two_runs_is_one_program_that_changed() -> None:
    sides = [
        chosen(run_of(record(timing=timing(1.7, typical_s=times)), record("torch-dp", timing=timing(1.5))), "torch-ddp")
        for times in (1.0, 2.0)
    ]
    found = compare(*sides)
    assert [(speed.case, speed.relation) for speed in found.speeds] == [("digits-mlp/torch-ddp/2/cpu", "code")]
    assert not found.refused


def on_gpu(model: str, typical_s: float, cores: int = 8) -> Run:
    """A timed case on one of NVIDIA's, and in a machine, of its own."""
    share = Share(num_cores=cores, num_threads=cores, device="cuda", memory_bytes=1 << 37)
    facts: dict[str, Any] = ENVIRONMENT | {"gpu_model": model, "num_cores": cores * 2, "nvidia_driver": f"{cores}.1"}
    case = record(
        device="cuda",
        timing=timing(1.9, typical_s=typical_s, share=share, yardstick_s=(0.008 * cores,) * 9),
        environment=facts,
    )
    return dataclasses.replace(run_of(case, **facts), directory=Path(model))


def test_two_gpus_stand_side_by_side_and_tell_nothing_of_the_code() -> None:
    a, b = on_gpu("NVIDIA A100", 1.0), on_gpu("NVIDIA H200", 0.4, cores=16)
    found = compare(a, b)
    (speed,) = found.speeds
    assert (speed.relation, speed.outcome) == ("unlike", None)
    assert speed.ratio.median == pytest.approx(0.4, rel=0.05), "in seconds: a yardstick would take the machine out"
    assert speed.ratio.median == pytest.approx(speed.now_s / speed.before_s, rel=0.02)
    assert "on unlike machines: NVIDIA A100 against NVIDIA H200: this tells nothing of the code" in speed.words
    assert "faster" not in found.headline
    told = f"1 time side by side, not alike ({speed.case} {words.speedup(speed.ratio)} the time)"
    assert told in found.headline
    assert failures(found)[0].startswith("nothing was compared")
    assert "side by side, not alike" in lines(found)
    assert f"  {speed.why}: this tells nothing of the code" in lines(found)
    # The other way round nothing is called slower.
    assert not any(line.startswith("slower") for line in failures(compare(b, a)))
    # The negative control: on one GPU the same times are a change of the code.
    assert compare(a, on_gpu("NVIDIA A100", 0.4)).speeds[0].outcome == "faster"


def test_another_work_is_not_even_shown_side_by_side() -> None:
    a, b = (run_of(record(timing=timing(1.7), workload_digest=digest)) for digest in ("one", "two"))
    assert not compare(a, b).speeds


def test_only_what_moved_most_is_judged_where_time_is_short() -> None:
    def run(times: Sequence[float]) -> Run:
        cases = [record("torch-ddp", f"work{n}", timing=timing(1.7, typical_s=by)) for n, by in enumerate(times)]
        return dataclasses.replace(run_of(*cases), directory=Path(str(times)))

    found = compare(run((1.0, 1.0, 1.0, 1.0)), run((1.01, 3.0, 0.2, 2.0)), most=2)
    assert {speed.case[:5]: speed.outcome for speed in found.speeds} == {"work1": "slower", "work2": "faster"}
    assert (found.num_steady, found.num_unjudged) == (1, 1)
    assert "1 time moved by less than 5 %, 1 more time moved further, not judged here" in found.headline


def test_hostile_names_and_numbers_come_through_as_data() -> None:
    a, b = run_of(*hostile()), dataclasses.replace(run_of(record(), *hostile()), directory=Path("b"))
    found = compare(a, b, most=3)
    assert compare(a, b).verdicts == found.verdicts
    again = msgspec.json.decode(store.encode(found), type=Comparison, strict=False)
    assert len(again.verdicts) == len(found.verdicts)
    assert all(line.isprintable() for line in [*lines(found), *failures(found)])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e308, 0.0, -1.0])
def test_a_time_that_is_none_is_refused_on_either_side(bad: float) -> None:
    fine, spoilt = (run_of(record(timing=timing(1.7, epoch_wall_s=(1.0, last)))) for last in (1.1, bad))
    for sides in ((fine, spoilt), (spoilt, fine)):
        found = compare(*sides)
        assert not found.speeds
        assert "not a positive number" in found.refused[0].reason


def test_a_yardstick_that_is_none_is_left_out() -> None:
    runs = [
        run_of(record(timing=timing(1.7, typical_s=times, yardstick_s=(unit,) * 9)))
        for times, unit in ((1.0, float("nan")), (3.0, 0.01))
    ]
    assert compare(*runs, most=5).speeds[0].outcome == "slower"


def test_sides_are_told_by_run_machine_and_commit() -> None:
    found = compare(run_of(record()), run_of(record(), gpu_model="NVIDIA H200"))
    assert [side.machine for side in found.sides] == [
        "AMD EPYC 9B14, 2 cores",
        "NVIDIA H200, AMD EPYC 9B14, 2 cores",
    ]
    assert found.sides[0].commit == "009116e"
    lost = dataclasses.replace(run_of(record()), info=RunInfo(id="b"))
    assert not compare(run_of(record()), lost).environment, "each record says itself where it was taken"


def test_what_is_never_the_same_twice_is_no_difference() -> None:
    assert not compare(run_of(record()), run_of(record(), load_average=9.9)).environment


def test_commits_are_as_long_as_tells_them_apart() -> None:
    found = compare(run_of(record(), commit="a" * 40), run_of(record(), commit="b" * 40))
    assert [side.commit for side in found.sides] == ["a" * 12, "b" * 12]
    assert [fact.values for fact in found.environment] == [("a" * 12, "b" * 12)]
    alike = compare(run_of(record(), commit="a" * 40), run_of(record(), commit="a" * 39 + "b"))
    assert [fact.values for fact in alike.environment] == [("a" * 40, "a" * 39 + "b")]


def test_ratios_say_how_wide_their_intervals_are() -> None:
    a, b = (run_of(record(timing=timing(1.7, typical_s=times))) for times in (1.0, 2.0))
    found = compare(a, dataclasses.replace(b, directory=Path("b")))
    assert found.headline.endswith(". Ratios of times are with their 99 % interval.")
    assert "(99 %) its time an epoch" in found.speeds[0].words
    assert any("time B / A (99 %)" in line and "speed-up in A (95 %)" in line for line in lines(found))
    assert "(99 %) the time of torch-ddp" in programs().speeds[0].words
    # The negative control: where no ratio is told, none has an interval.
    assert "interval" not in compare(run_of(record()), dataclasses.replace(run_of(), directory=Path("b"))).headline
