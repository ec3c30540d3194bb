"""What changed since earlier runs of the same folder: which these are, what they say, and at what cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from fixtures.sample_records import ENVIRONMENT, hostile, record, sample, skipped, timing, write_run
from harness import store
from harness.record import Record
from harness.report.compared import changes, light
from harness.report.compared.comparison import Comparison
from harness.report.compared.comparison_lines import lines

NOW = "20261120T101502.345Z-0000"
EARLIER = {
    "hours": "20261120T081502.345Z-1111",
    "night": "20261120T005502.345Z-2222",
    "yesterday": "20261119T091502.345Z-3333",
    "days": "20261116T101502.345Z-4444",
    "week": "20261113T101502.345Z-5555",
    "month": "20261020T101502.345Z-6666",
}


def write(folder: Path, name: str, *records: Record, **info: Any) -> Path:
    started = f"{name[:4]}-{name[4:6]}-{name[6:8]}T{name[9:11]}:{name[11:13]}:{name[13:15]}Z"
    own = [msgspec.structs.replace(one, run=name) for one in records or (record(),)]
    return write_run(folder / name, own, started=started, **info)


def since(folder: Path, *records: Record, **info: Any) -> tuple[Comparison, ...]:
    return changes.since(store.read(write(folder, NOW, *records, **info)), folder)


def baselines(found: tuple[Comparison, ...]) -> list[str]:
    return [comparison.sides[0].id for comparison in found]


def test_a_run_is_held_against_the_one_before_yesterdays_and_last_weeks(tmp_path: Path) -> None:
    for name in EARLIER.values():
        write(tmp_path, name)
    found = since(tmp_path)
    assert baselines(found) == [EARLIER["hours"], EARLIER["yesterday"], EARLIER["week"]]
    assert [comparison.label for comparison in found] == [
        f"since the run before ({EARLIER['hours']}, 2 hours earlier)",
        f"since yesterday ({EARLIER['yesterday']}, 1 day earlier)",
        f"since last week ({EARLIER['week']}, 7 days earlier)",
    ]
    assert found[2].headline == "Since 13 Nov: no verdict changed."


def test_a_baseline_is_named_once(tmp_path: Path) -> None:
    write(tmp_path, EARLIER["month"])
    (found,) = since(tmp_path)
    assert found.label == f"since the run before ({EARLIER['month']}, 31 days earlier)"


@pytest.mark.parametrize("records", [(), (record("torch-dp"),)])
def test_a_run_without_a_case_in_common_is_no_baseline(tmp_path: Path, records: tuple[Record, ...]) -> None:
    write_run(tmp_path / EARLIER["hours"], list(records))
    write(tmp_path, EARLIER["night"])
    assert baselines(since(tmp_path)) == [EARLIER["night"]]


def test_a_run_without_earlier_ones_says_nothing(tmp_path: Path) -> None:
    write(tmp_path, "20261121T101502.345Z-7777")  # a later run
    assert since(tmp_path) == ()


def test_a_run_of_unknown_time_has_nothing_before_it(tmp_path: Path) -> None:
    write(tmp_path, EARLIER["hours"])
    run = store.read(write_run(tmp_path / "mine", [record()], started="whenever"))
    assert changes.since(run, tmp_path) == ()
    # The negative control: its information says when it began.
    run = store.read(write_run(tmp_path / "other", [record()], started="2026-11-20T10:15:02Z"))
    assert baselines(changes.since(run, tmp_path)) == [EARLIER["hours"]]


def test_what_cannot_be_read_tells_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    for name in EARLIER.values():
        write(tmp_path, name)
    (tmp_path / EARLIER["hours"] / "records.jsonl").write_bytes(b"garbage\n\xff\xfe")
    (tmp_path / EARLIER["yesterday"] / "records.jsonl").unlink()
    damaged = tmp_path / EARLIER["week"] / "run.json"
    damaged.write_bytes(b"{")
    found = since(tmp_path)
    assert baselines(found) == [EARLIER["night"], EARLIER["days"], EARLIER["week"]]
    assert "run.json is damaged" in found[2].sides[0].losses[0]
    damaged.write_bytes(damaged.read_bytes().replace(b"{", b'{"schema": 99, "id": "x"}'))
    assert baselines(since(tmp_path))[2] == EARLIER["month"]


def test_what_changed_is_told_and_other_versions_do_not_hinder_it(tmp_path: Path) -> None:
    older = ENVIRONMENT | {"torch": "2.14.0"}
    write(
        tmp_path,
        EARLIER["week"],
        record(timing=timing(1.7, typical_s=1.0), environment=older),
        record("torch-dp"),
        environment=older,
    )
    (found,) = since(tmp_path, record(timing=timing(1.7, typical_s=1.8)), record("torch-dp", conclusion="different"))
    (speed,) = found.speeds
    assert (speed.relation, speed.outcome) == ("code", "slower")
    for part in ("Since 13 Nov: 1 is now different", ", 1 case got slower", "torch 2.14.0 -> 2.15.0"):
        assert part in found.headline


def test_a_run_that_is_the_same_shows_no_change(tmp_path: Path) -> None:
    write(tmp_path, EARLIER["hours"], *sample())
    (found,) = since(tmp_path, *sample())
    assert not found.speeds
    assert not found.verdicts
    assert found.num_steady == 9
    assert "no change was shown; 9 times moved by less than 5 %" in found.headline


def test_runs_in_between_tell_how_runs_differ(tmp_path: Path) -> None:
    steady = [timing(1.7, seed=seed, typical_s=1.0) for seed in range(6)]
    for name, timed in zip(EARLIER.values(), steady, strict=True):
        write(tmp_path, name, record(timing=timed))
    found = since(tmp_path, record(timing=timing(1.7, seed=9, typical_s=1.12)))
    with_others = found[0].speeds[0].ratio
    for name in list(EARLIER.values())[1:]:
        (tmp_path / name / "records.jsonl").unlink()
    alone = changes.since(store.read(tmp_path / NOW), tmp_path)[0].speeds[0].ratio
    assert with_others.high - with_others.low < alone.high - alone.low


def test_hostile_records_come_through(tmp_path: Path) -> None:
    write(tmp_path, EARLIER["hours"], *hostile())
    (found,) = since(tmp_path, record(), *hostile())
    assert {change.kind for change in found.verdicts} == {"new"}
    assert all(line.isprintable() for line in lines(found))


def test_a_page_lists_so_many_and_counts_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_MOST_LISTED", 3)
    write(
        tmp_path,
        EARLIER["hours"],
        record(),
        *(record("torch-dp", f"work{number}", timing=timing(1.5) if number % 2 else None) for number in range(10)),
    )
    (found,) = since(tmp_path)
    assert len(found.verdicts) == 3
    assert (len(found.refused), found.num_refused) == (3, 5)
    assert found.counts == {"no longer run": 10}
    assert "10 were not run" in found.headline


def test_no_more_is_read_than_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in EARLIER.values():
        write(tmp_path, name, skipped("x", "y", 2, "no"))
    write(tmp_path, EARLIER["month"])
    read, really = [], light.read

    def counted(path: Path) -> store.Run:
        read.append(path.name)
        return really(path)

    monkeypatch.setattr(light, "read", counted)
    assert baselines(since(tmp_path)) == [EARLIER["month"]]
    assert len(read) == len(EARLIER), "each once, whichever is asked for"
    monkeypatch.setattr(changes, "_MOST_RUNS", 2)
    assert since(tmp_path) == ()
    monkeypatch.undo()
    monkeypatch.setattr(changes, "_MOST_BYTES", light.size(tmp_path / EARLIER["hours"]) * 3)
    assert since(tmp_path) == ()


def test_a_run_without_its_evidence_compares_as_the_whole_one(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [*sample(), *hostile()])
    whole, found = store.merge(store.read(folder).records), store.merge(light.read(folder).records)
    names = ("case", "workload_digest", "verdict", "failed", "environment", "fault")
    told = [[getattr(one, name) for name in names] for one in found]
    assert told == [[getattr(one, name) for name in names] for one in whole if one.fault is None]
    assert [one.timing for one in found][:9] == [one.timing for one in whole if one.fault is None][:9]


def test_lines_of_another_schema_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [record(), record("torch-dp")])
    lines_ = (folder / "records.jsonl").read_bytes().splitlines()
    other = lines_[0].replace(b'"schema":1', b'"schema":99')
    (folder / "records.jsonl").write_bytes(b"\n".join([other, b"", b"[1", lines_[1]]))
    found = light.read(folder)
    assert [one.strategy for one in found.records] == ["torch-dp"]
    assert found.num_damaged == 2


def test_a_case_that_the_run_before_lacks_is_held_against_when_it_was_last_run(tmp_path: Path) -> None:
    write(tmp_path, EARLIER["week"], record(), record("torch-fsdp"), record("torch-dp", conclusion="different"))
    write(tmp_path, EARLIER["hours"], record())
    now = (
        record(),
        record("torch-fsdp", conclusion="different"),
        record("torch-dp", conclusion="different"),
        record("torch-zero1"),
    )
    nearest = since(tmp_path, *now)[0]
    assert baselines((nearest,)) == [EARLIER["hours"]]
    assert nearest.counts == {"now different": 1, "new": 1}, "what was different before is neither"
    earlier = "equivalent 7 days earlier"
    assert nearest.verdicts[0].verdicts == (earlier, "different")
    assert f"1 is now different (digits-mlp/torch-fsdp/2/cpu, {earlier}), 1 is new" in nearest.headline


def test_a_new_case_is_shown_by_what_it_came_to(tmp_path: Path) -> None:
    write(tmp_path, EARLIER["hours"], record())
    (found,) = since(
        tmp_path,
        record(),
        record("torch-dp", conclusion="different"),
        record("torch-fsdp", conclusion="not-verified", failed=True),
        skipped("torch-ddp", "digits-cnn", 2, "no"),
        record("torch-zero1"),
    )
    assert [(change.kind, change.tone) for change in found.verdicts] == [
        ("new and different", "different"),
        ("new and failed", "different"),
        ("new", "not-verified"),
        ("new", "equivalent"),
    ]
    assert "1 is new and different (digits-mlp/torch-dp/2/cpu), 1 is new and fails (" in found.headline
    assert "2 are new" in found.headline


@pytest.mark.parametrize("ended", ["2026-11-20T10:20:02Z", ""])
def test_of_a_run_that_goes_on_no_case_counts_as_gone(tmp_path: Path, ended: str) -> None:
    write(tmp_path, EARLIER["hours"], record(), record("torch-dp", timing=timing(1.5)))
    (found,) = since(tmp_path, record(), ended=ended)
    assert found.counts == ({"no longer run": 1} if ended else {})
    assert found.num_refused == int(bool(ended))
    assert ("1 was not run" in found.headline) == bool(ended)
    assert ("so far: no verdict changed" in found.headline) == (not ended)


def test_what_is_graver_since_an_earlier_run_is_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, EARLIER["week"], record())
    write(tmp_path, EARLIER["yesterday"], record(conclusion="different"))
    found = since(tmp_path, record(conclusion="different"))
    told = changes.told_first(found)
    assert [one.headline for one in told] == [
        "Since 19 Nov: no verdict changed.",
        "Since 13 Nov: 1 is now different (digits-mlp/torch-ddp/2/cpu).",
    ]
    assert changes.told_first(found[:1]) == found[:1]
    assert changes.told_first(()) == ()
