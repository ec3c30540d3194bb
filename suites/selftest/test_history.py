"""Runs as baselines: like with like, the unlike named, hostile folders survived."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fixtures.sample_records import ENVIRONMENT, hostile, record, timing, write_run
from harness import history, store
from harness.errors import StoreError, UnknownNameError
from harness.history import History, compare, differences, refusal
from harness.record import Record
from harness.timings import Compared, Outcome, Share

CASE = "digits-mlp/torch-ddp/2/cpu"
SHARE = Share(num_cores=1, num_threads=1, device="cpu", memory_bytes=8_000_000_000)


def case(seed: int = 0, *, run: str = "before", times: float = 1.0, mood: float = 1.0, **changes: Any) -> Record:
    """Return a timed case whose epochs take ``times`` as long, on a machine that takes ``mood`` times as long."""
    timed = timing(1.7, seed=seed, typical_s=0.4 * times * mood, **changes.pop("timing", {}))
    baselines = tuple(
        msgspec.structs.replace(baseline, epoch_s=tuple(second / times for second in baseline.epoch_s))
        for baseline in timed.baselines
    )
    settings = {"yardstick_s": (0.008 * mood,) * len(timed.epoch_wall_s), "baselines": baselines, "share": SHARE}
    settings |= changes.pop("changed", {})
    return record(timing=msgspec.structs.replace(timed, **settings), run=run, **changes)


def environment(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (ENVIRONMENT | changes).items() if value is not None}


def test_equal_runs_have_no_difference_and_are_compared() -> None:
    assert differences(case(), case(1)) == []
    found = compare(case(), case(1))
    assert found.outcome in ("pass", "inconclusive")
    assert (found.run, found.floor, found.num_earlier) == ("before", history.FLOOR, 0)


@pytest.mark.parametrize(("times", "expected"), [(1.3, "slower"), (0.7, "faster")])
def test_a_clear_change_says_by_how_much_and_what_moved(times: float, expected: str) -> None:
    found = compare(case(), case(1, times=times))
    assert found.outcome == expected
    assert found.ratio is not None
    assert found.ratio.low < times < found.ratio.high
    assert found.words.startswith(f"{expected} than before: ")
    assert "the parallel run itself changed" in found.words
    assert found.bare == pytest.approx(times, rel=0.05)


def test_a_machine_in_another_mood_is_no_slower_code() -> None:
    found = compare(case(), case(1, mood=1.3), earlier=[case(i) for i in range(2, 8)])
    assert found.outcome in ("pass", "inconclusive"), found.words
    assert found.ratio is not None
    assert found.ratio.median == pytest.approx(1, abs=0.02)
    assert found.bare == pytest.approx(1.3, rel=0.05)
    assert found.machine == pytest.approx(1.3)
    assert "fixed work beside it took 1.30x, which is taken out" in found.words
    # The negative control: without its yardstick it looks slower.
    unaided: dict[str, Any] = {"yardstick_s": ()}
    bare = [case(i, changed=unaided) for i in range(7)]
    assert compare(bare[0], case(7, mood=1.3, changed=unaided), earlier=bare[1:]).outcome == "slower"


def test_a_slowdown_of_what_serial_shares_is_told_apart() -> None:
    slow = case(1, times=1.3)
    assert slow.timing is not None
    shared = tuple(
        msgspec.structs.replace(run, epoch_s=tuple(1.3 * second for second in run.epoch_s))
        for run in slow.timing.baselines
    )
    found = compare(
        case(), msgspec.structs.replace(slow, timing=msgspec.structs.replace(slow.timing, baselines=shared))
    )
    assert found.outcome == "slower"
    assert found.to_serial is not None
    assert found.to_serial.median == pytest.approx(1, abs=0.05)
    assert "what serial shares may have changed, too" in found.words


def test_without_a_yardstick_the_doubt_is_told() -> None:
    found = compare(case(changed={"yardstick_s": ()}), case(1, times=1.3))
    assert found.machine is None
    assert found.outcome == "inconclusive"
    assert "without a yardstick, so" in found.words


def test_on_gpus_times_are_compared_bare_and_it_is_said_why() -> None:
    runs = [case(i, run=str(i), device="cuda", changed={"yardstick_s": ()}) for i in range(8)]
    slow = case(9, times=1.6, device="cuda", changed={"yardstick_s": ()})
    assert compare(runs[0], case(9, device="cuda", changed={"yardstick_s": ()}), earlier=runs[1:]).outcome != "slower"
    found = compare(runs[0], slow, earlier=runs[1:])
    assert (found.outcome, found.machine) == ("slower", None)
    assert "without a yardstick (a CPU's says nothing of a GPU), so that the machine itself may" in found.words


def test_a_yardstick_that_does_not_fit_the_epochs_is_left_out() -> None:
    for units in ((0.008,), (float("nan"),) * 9, (0.0,) * 9):
        assert compare(case(changed={"yardstick_s": units}), case(1)).machine is None


@pytest.mark.parametrize(
    ("other", "told", "kind"),
    [
        (case(workload_digest="other"), "workload digest 0a1b2c3d4e5f before, other now", None),
        (case(strategy="torch-dp"), "strategy torch-ddp before, torch-dp now", None),
        (case(world_size=4), "world size 2 before, 4 now", None),
        (case(changed={"scaling": "weak"}), "scaling strong before, weak now", None),
        (case(changed={"num_samples": 99}), "samples an epoch 1437 before, 99 now", None),
        (case(changed={"oversubscribed": True}), "oversubscribed False before, True now", None),
        (
            case(changed={"share": msgspec.structs.replace(SHARE, num_threads=2)}),
            "a rank's threads 1 before, 2 now",
            None,
        ),
        (case(changed={"share": msgspec.structs.replace(SHARE, device="H100")}), "device cpu before, H100 now", None),
        (case(environment=environment(torch="2.16.0")), "torch 2.15.0 before, 2.16.0 now", "versions"),
        (case(environment=environment(python="3.12.1")), "python 3.11.9 before, 3.12.1 now", "versions"),
        (case(environment=environment(keras=None)), "keras 3.15.1 before, none now", "versions"),
        (case(environment=environment(cpu_model="other")), "cpu_model AMD EPYC 9B14 before, other now", "machine"),
        (case(environment=environment(gpu_model="A100")), "gpu_model none before, A100 now", "machine"),
        (case(environment=environment(num_cores=4)), "num_cores 2 before, 4 now", "machine"),
        (case(environment=environment(schedule_fuzz=1)), "schedule_fuzz none before, 1 now", "settings"),
        (case(environment=environment(NCCL_ALGO="Tree")), "NCCL_ALGO none before, Tree now", "settings"),
    ],
)
def test_the_unlike_is_refused_by_name(other: Record, told: str, kind: str | None) -> None:
    why = refusal(case(), other)
    assert why is not None
    assert told in why
    assert compare(case(), other).outcome is None
    if kind is None:
        assert refusal(case(), other, allow=history.KINDS) is not None
    else:
        assert why.endswith(f"allow a difference of {kind}")
        assert refusal(case(), other, allow=[kind]) is None
        assert refusal(case(), other, allow=[other for other in history.KINDS if other != kind]) is not None


def test_what_a_time_does_not_depend_on_may_differ() -> None:
    assert refusal(case(), case(environment=environment(load_average=9.0, commit="other", memory_bytes=1))) is None


def test_a_share_that_was_not_recorded_says_nothing() -> None:
    assert refusal(case(changed={"share": None}), case()) is None


@pytest.mark.parametrize(
    ("unfit", "told"),
    [
        (case(conclusion="different"), "struck out (different)"),
        (case(timing={"struck": "the machine was shared"}), "struck out (the machine was shared)"),
        (record(), "not timed"),
        (case(changed={"epoch_wall_s": (1.0,)}), "1 epoch where an interval needs 2"),
        (case(changed={"epoch_wall_s": (1.0, float("nan"))}), "not a positive number"),
        (case(changed={"epoch_wall_s": (1.0, 0.0)}), "not a positive number"),
    ],
)
def test_what_may_not_be_read_as_a_time_is_refused_on_either_side(unfit: Record, told: str) -> None:
    before, now = refusal(unfit, case()), refusal(case(), unfit)
    assert before is not None
    assert told in before
    assert before.endswith(" before")
    assert now is not None
    assert told in now
    assert now.endswith(" now")


def stored(folder: Path, number: int, *records: Record) -> Path:
    """Write a run, named by its time."""
    name = f"20261120T1015{number:02d}.000Z-0000"
    return write_run(folder / name, [msgspec.structs.replace(record, run=name) for record in records])


def against(folder: Path, wanted: str = "auto", now: Record | None = None, **settings: Any) -> Compared:
    return History(folder, wanted, **settings).against(now or case(9, run="now"))


def test_auto_takes_the_latest_that_is_alike_and_learns_from_the_others(tmp_path: Path) -> None:
    for number in range(4):
        stored(tmp_path, number, case(number))
    stored(tmp_path, 4, case(4, environment=environment(torch="2.16.0")))
    stored(tmp_path, 5, case(5, conclusion="different"))
    stored(tmp_path, 6, record())
    found = against(tmp_path)
    assert found.run == "20261120T101503.000Z-0000"
    assert found.num_earlier == 3
    assert found.outcome is not None


def told(outcome: Outcome, run: str = "") -> dict[str, Any]:
    """Return what makes a case one of which its own run said so."""
    return {"changed": {"compared": Compared(run=run, outcome=outcome, words="", floor=0.05)}}


def name(number: int) -> str:
    return f"20261120T1015{number:02d}.000Z-0000"


def grown(folder: Path, number: int, times: float, wanted: str = "auto") -> Compared:
    """Time the case once more, as a session does: compare it, then keep it."""
    now = case(100 + number, run=name(number), times=times)
    found = History(folder, wanted, own=name(number)).against(now)
    assert now.timing is not None
    stored(folder, number, msgspec.structs.replace(now, timing=msgspec.structs.replace(now.timing, compared=found)))
    return found


def test_a_second_try_is_not_held_against_the_one_that_failed(tmp_path: Path) -> None:
    for number in range(6):
        assert grown(tmp_path, number, 1.0).outcome != "slower"
    tries = [grown(tmp_path, number, 1.2) for number in (6, 7, 8)]
    assert [found.outcome for found in tries] == ["slower"] * 3
    assert {found.run for found in tries} == {name(5)}


def test_a_creep_too_small_to_see_from_run_to_run_is_seen(tmp_path: Path) -> None:
    said = [grown(tmp_path, number, 1.04**number).outcome for number in range(20)]
    assert "slower" in said
    assert "slower" not in said[:3]


def test_a_run_that_got_faster_begins_anew(tmp_path: Path) -> None:
    stored(tmp_path, 0, case(0, times=2.0))
    stored(tmp_path, 1, case(1, **told("faster")))
    stored(tmp_path, 2, case(2, **told("pass")))
    found = against(tmp_path)
    assert (found.run, found.num_earlier) == (name(2), 1)
    assert "the 2 runs up to" in found.words


def test_a_slowdown_is_accepted_by_comparing_with_it_by_name(tmp_path: Path) -> None:
    for number in range(4):
        stored(tmp_path, number, case(number))
    stored(tmp_path, 4, case(4, times=1.2, **told("slower", name(3))))
    stored(tmp_path, 5, case(5, **told("pass", name(3))))
    accepting = grown(tmp_path, 6, 1.2, name(4))
    assert accepting.outcome != "slower"
    assert accepting.run == name(4)
    found = grown(tmp_path, 7, 1.2)
    assert found.outcome != "slower"
    assert (found.run, found.num_earlier) == (name(6), 1)
    assert grown(tmp_path, 8, 1.5).outcome == "slower"


def test_a_slower_run_that_a_still_slower_one_was_held_against_is_not_accepted(tmp_path: Path) -> None:
    stored(tmp_path, 0, case(0))
    stored(tmp_path, 1, case(1, times=1.2, **told("slower", name(0))))
    stored(tmp_path, 2, case(2, times=1.5, **told("slower", name(1))))
    assert against(tmp_path).run == name(0)


def test_the_spread_beside_a_named_run_is_that_of_its_own_chain(tmp_path: Path) -> None:
    for number in range(4):
        stored(tmp_path, number, case(number, times=3.0))
    stored(tmp_path, 4, case(4, **told("faster")))
    for number in range(5, 9):
        stored(tmp_path, number, case(number, **told("pass")))
    stored(tmp_path, 9, case(9, times=2.0, **told("slower")))
    now = case(20, run="now", times=1.12)
    found = against(tmp_path, name(8), now)
    assert (found.outcome, found.num_earlier) == ("slower", 4)
    # The negative control: were all taken for one thing, nothing would be beyond their spread.
    every = [record for run in history.others(tmp_path, {name(8)}) for record in run.records]
    assert compare(case(8), now, earlier=every).outcome == "inconclusive"


def test_where_every_run_was_called_slower_none_is_a_baseline(tmp_path: Path) -> None:
    stored(tmp_path, 1, case(1, **told("slower")))
    found = against(tmp_path)
    assert found.outcome is None
    assert found.refused
    assert f"the latest is {name(1)}; to accept its times, compare with it by name" in found.words


def test_a_run_without_a_yardstick_does_not_take_it_from_the_others(tmp_path: Path) -> None:
    for number in range(3):
        stored(tmp_path, number, case(number))
    stored(tmp_path, 3, case(3, changed={"yardstick_s": ()}))
    assert against(tmp_path).machine is not None


def test_what_is_refused_says_whether_there_was_a_time_and_what_would_allow_it() -> None:
    older = case(environment=environment(torch="2.16.0", num_cores=4))
    found = compare(older, case())
    assert (found.refused, found.allow) == (True, ("machine", "versions"))
    assert compare(older, case(), allow=["machine"]).allow == ("versions",)
    assert compare(case(workload_digest="other"), older).allow == ()
    struck = case(conclusion="different")
    assert (compare(struck, case()).refused, compare(case(), struck).refused) == (False, True)


def test_auto_leaves_out_the_run_that_is_going_on(tmp_path: Path) -> None:
    first, second = (stored(tmp_path, number, case(number)) for number in range(2))
    assert against(tmp_path, own=second.name).run == first.name
    assert against(tmp_path, "latest", own=second.name).run == first.name
    assert against(tmp_path, "latest").run == second.name


def test_auto_without_a_like_run_says_what_was_unlike(tmp_path: Path) -> None:
    found = against(tmp_path)
    assert found.outcome is None
    assert f"no earlier run in {tmp_path} timed this case" in found.words
    old = stored(tmp_path, 1, case(environment=environment(torch="2.16.0")))
    found = against(tmp_path)
    assert "torch 2.16.0 before, 2.15.0 now" in found.words
    assert f"(the latest is {old.name})" in found.words
    assert found.refused
    assert against(tmp_path, allow=["versions"]).outcome is not None


def test_a_named_run_is_the_baseline_wherever_it_lies(tmp_path: Path) -> None:
    elsewhere = write_run(tmp_path / "elsewhere" / "kept", [case(run="kept")])
    for number in range(3):
        stored(tmp_path / "reports", number, case(number + 1))
    found = against(tmp_path / "reports", str(elsewhere))
    assert found.run == "kept"
    assert found.num_earlier == 3
    assert "kept: it did not time this case" in against(tmp_path, str(elsewhere), case(strategy="torch-dp")).words


def test_a_run_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no-such-run"):
        History(tmp_path, "no-such-run")
    with pytest.raises(UnknownNameError, match="latest"):
        History(tmp_path, "latest")


def other_schema(run: Path) -> None:
    path = run / store.RECORDS
    lines = [json.loads(line) | {"schema": 999} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_run_of_another_schema_is_refused_by_name_and_passed_over_by_auto(tmp_path: Path) -> None:
    good, bad = (stored(tmp_path, number, case(number)) for number in range(2))
    other_schema(bad)
    with pytest.raises(StoreError, match=r"expected schema \d+ but .* has schema 999"):
        History(tmp_path, bad.name)
    assert against(tmp_path).run == good.name


def test_hostile_folders_are_passed_over(tmp_path: Path) -> None:
    good = stored(tmp_path, 0, case())
    stored(tmp_path, 1, *hostile())
    for number, content in ((2, b""), (3, b"\xff\xfe not json\n{"), (4, b'{"schema": null}\n')):
        folder = tmp_path / f"20261120T1015{number:02d}.000Z-0000"
        folder.mkdir()
        (folder / store.RECORDS).write_bytes(content)
    (tmp_path / "20261120T101505.000Z-0000").mkdir()
    (tmp_path / "20261120T101506.000Z-0000").write_text("a file")
    (tmp_path / "20261120T101507.000Z-0000" / store.RECORDS).mkdir(parents=True)
    (tmp_path / "a run of mine").mkdir()
    assert against(tmp_path).run == good.name


def test_a_folder_that_is_not_there_holds_no_runs(tmp_path: Path) -> None:
    assert against(tmp_path / "none").outcome is None
