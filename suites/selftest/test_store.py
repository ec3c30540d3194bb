"""Records on disk: kept when a run dies, told when they are lost, refused when they are from another time."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.sample_records import RUN, hostile, interval, record, sample, skipped, timing, verdict, write_run
from harness import store
from harness.errors import MissingRequirementError, StoreError, UnknownNameError
from harness.record import Record
from harness.spec import Case
from harness.store import Journal, RunInfo, encode, load, merge, new_run_id, read

INFO = RunInfo(id=RUN, command="pytest", asked="-m gpu2")
NOBODY = 65534


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    records = sample()
    run = read(write_run(tmp_path / RUN, records))
    assert list(run.records) == records
    assert run.info.id == RUN
    assert run.info.ended
    assert not run.losses


def test_a_record_is_on_disk_as_soon_as_its_case_ended(tmp_path: Path) -> None:
    journal = Journal(tmp_path, INFO)
    journal.append(record())
    assert read(tmp_path).records == (record(),)
    journal.append(record("torch-threads"))
    assert len(read(tmp_path).records) == 2
    journal.close()


def test_a_killed_run_keeps_what_it_finished(tmp_path: Path) -> None:
    script = f"""
        import os, signal
        from pathlib import Path
        from fixtures.sample_records import record
        from harness.store import Journal, RunInfo
        journal = Journal(Path({str(tmp_path)!r}), RunInfo(id="killed"))
        journal.append(record())
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert python(script).returncode == -9
    run = read(tmp_path)
    assert run.records == (record(),)
    assert not run.info.ended


def test_a_line_cut_short_is_left_out_counted_and_told(tmp_path: Path) -> None:
    path = write_run(tmp_path / RUN, [record(), record("torch-threads")]) / store.RECORDS
    path.write_bytes(path.read_bytes()[:-40])
    run = read(tmp_path / RUN)
    assert [item.strategy for item in run.records] == ["torch-ddp"]
    assert run.num_damaged == 1
    assert run.losses == ("1 damaged line of records.jsonl (line 2) was left out",)


def test_a_continued_run_starts_on_a_line_of_its_own(tmp_path: Path) -> None:
    path = write_run(tmp_path / RUN, [record()]) / store.RECORDS
    path.write_bytes(path.read_bytes() + b'{"schema":1,"run":"cut sh')
    write_run(tmp_path / RUN, [record("torch-threads")])
    run = read(tmp_path / RUN)
    assert [item.strategy for item in run.records] == ["torch-ddp", "torch-threads"]
    assert run.num_damaged == 1


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00", b"[1, 2]", b"null", b'{"schema":1}', b'{"schema":"one"}', b"{"])
def test_any_damaged_line_is_left_out_and_the_rest_is_shown(tmp_path: Path, damage: bytes) -> None:
    path = write_run(tmp_path / RUN, [record()]) / store.RECORDS
    path.write_bytes(damage + b"\n\n" + path.read_bytes())
    run = read(tmp_path / RUN)
    assert run.records == (record(),)
    assert run.num_damaged == 1


def test_numbers_and_names_that_json_cannot_hold_survive(tmp_path: Path) -> None:
    first, timed, _ = read(write_run(tmp_path / RUN, hostile())).records
    assert first.margin == math.inf
    assert first.divergence is not None
    assert math.isnan(first.divergence.observed)
    assert timed.timing is not None
    assert timed.timing.speedup is not None
    assert timed.timing.speedup.low == -math.inf
    assert first.reason.endswith("\\ud800"), "a lone surrogate has no UTF-8; it is kept as an escape"


@settings(deadline=None, max_examples=60)
@given(st.text(), st.floats(), st.dictionaries(st.text(), st.one_of(st.text(), st.floats(), st.integers())))
def test_any_record_is_one_line_of_standard_json(reason: str, margin: float, facts: dict[str, Any]) -> None:
    line = encode(record(reason=reason, margin=margin, environment=facts))
    assert b"\n" not in line

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(line, parse_constant=refuse)
    back = msgspec.json.decode(line, type=Record, strict=False)
    assert back.reason == reason
    assert back.margin == margin or math.isnan(margin)


def test_a_full_disk_is_told_with_the_way_out_and_leaves_whole_lines(tmp_path: Path) -> None:
    script = f"""
        import resource
        from pathlib import Path
        from fixtures.sample_records import record
        from harness.errors import StoreError
        from harness.store import Journal, RunInfo, encode
        room = int(2.5 * len(encode(record())))
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))  # writing beyond fails after a partial write
        journal = Journal(Path({str(tmp_path)!r}), RunInfo(id="full"))
        journal.append(record())
        journal.append(record())
        try:
            journal.append(record())
        except StoreError as error:
            assert "--ls-report-dir" in str(error), error
        else:
            raise AssertionError("no error")
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        journal.close()
    """
    done = python(script)
    assert done.returncode == 0, done.stderr
    run = read(tmp_path)
    assert run.records == (record(), record())
    assert run.num_damaged == 0


def test_no_space_is_named(tmp_path: Path) -> None:
    (tmp_path / store.RECORDS).symlink_to("/dev/full")
    journal = Journal(tmp_path, INFO)
    with pytest.raises(StoreError, match=r"No space left on device; .*--ls-report-dir DIR"):
        journal.append(record())
    journal.close()


def test_a_file_in_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("not a folder")
    with pytest.raises(StoreError, match=r"reports.* but Not a directory; .*--ls-report-dir"):
        Journal(tmp_path / "reports" / RUN, INFO)


def test_a_directory_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with unprivileged(), pytest.raises(StoreError, match=r"Permission denied; .*--ls-report-dir"):
        Journal(tmp_path / RUN, INFO)
    tmp_path.chmod(0o700)


def test_a_journal_that_cannot_start_leaves_no_file_open(tmp_path: Path) -> None:
    (tmp_path / store.INFO).mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(StoreError, match="directory"):
        Journal(tmp_path, INFO)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not list(tmp_path.glob(".*")), "nothing half-written is left"


@pytest.mark.parametrize("file", [store.RECORDS, store.INFO])
def test_another_schema_is_refused_by_name(tmp_path: Path, file: str) -> None:
    path = write_run(tmp_path / RUN, [record()]) / file
    path.write_text(path.read_text().replace('"schema":1', '"schema":7').replace('"schema": 1', '"schema": 7'))
    with pytest.raises(StoreError, match=rf"expected schema 1 but .*{file}.* has schema 7; .*version of Lockstep"):
        read(tmp_path / RUN)


@pytest.mark.parametrize(("content", "words"), [(None, "is missing"), ("{", "is damaged")])
def test_a_run_without_its_description_is_still_shown(tmp_path: Path, content: str | None, words: str) -> None:
    path = write_run(tmp_path / RUN, [record()]) / store.INFO
    path.unlink() if content is None else path.write_text(content)
    run = read(tmp_path / RUN)
    assert run.records == (record(),)
    assert run.info.id == RUN
    assert words in run.losses[0]


def test_a_run_is_found_by_directory_file_id_or_as_the_latest(tmp_path: Path) -> None:
    early, late = (
        write_run(tmp_path / name, []) for name in ("20260101T000000.000Z-ffff", "20260102T000000.000Z-0000")
    )
    write_run(tmp_path / "sample", [])
    assert read(early).info.id == early.name
    assert read(early / "records.jsonl").info.id == early.name
    assert read(early.name, tmp_path).info.id == early.name
    assert read("latest", tmp_path).info.id == late.name, "only names with a time can be the latest"


def test_an_unknown_run_is_refused_with_the_nearest_names(tmp_path: Path) -> None:
    write_run(tmp_path / RUN, [])
    with pytest.raises(UnknownNameError, match=f"did you mean '{RUN}'"):
        read(RUN[:-1] + "b", tmp_path)
    with pytest.raises(UnknownNameError, match="known: none"):
        read("latest", tmp_path / "nowhere")


def test_names_of_runs_sort_by_time_and_do_not_meet() -> None:
    names = [new_run_id() for _ in range(5)]  # of many within a millisecond two might
    assert len(set(names)) == 5
    assert [name[:20] for name in names] == sorted(name[:20] for name in names)
    assert all(name == Path(name).name and name.isascii() for name in names)


def test_a_performance_record_brings_its_figures_to_the_parity_record() -> None:
    parity = record(duration_s=0.3)
    speed = record(timing=timing(1.7), duration_s=4.0, resources={"peak_memory_bytes": 5, "new": 1}, command="other")
    (both,) = merge([parity, speed])
    assert both.timing == speed.timing
    assert both.evidence == parity.evidence
    assert both.duration_s == 4.3
    assert both.resources == parity.resources | speed.resources


def test_a_case_that_was_once_different_stays_different() -> None:
    found = record(conclusion="different")
    for records in ([found, record()], [record(), found]):
        (both,) = merge(records)
        assert (both.verdict, both.reason, both.divergence) == ("different", found.reason, found.divergence)


def test_a_skipped_test_never_hides_a_judged_one() -> None:
    skip = skipped("torch-ddp", "digits-mlp", 2, "no room for timing")
    for records in ([record(), skip], [skip, record()]):
        (both,) = merge(records)
        assert both.verdict == "equivalent"
        assert both.reason == record().reason
        assert both.logs == record().logs


def test_a_time_stays_with_the_machine_it_was_taken_on() -> None:
    here = record(timing=timing(1.7), environment={"cpu_model": "small"}, traces="traces/own.json")
    elsewhere = record(conclusion="different", run="another", judged_from="f" * 64, environment={"cpu_model": "large"})
    for records in ([here, elsewhere], [elsewhere, here]):
        assert merge(records) == [elsewhere]
    graver = record(conclusion="different", environment={"cpu_model": "small"})
    passed = record(run="another", judged_from="f" * 64, timing=timing(1.7), environment={"cpu_model": "large"})
    assert merge([passed, graver]) == [graver]


def test_cases_workloads_and_faults_are_kept_apart() -> None:
    records = [record(), record(workload_digest="other"), record(fault="sum"), record(world_size=4)]
    assert merge(records) == records


@given(st.lists(st.sampled_from(sample()), max_size=8))
def test_merging_again_changes_nothing(records: list[Record]) -> None:
    once = merge(records)
    assert merge(once) == once
    assert len({(item.case, item.workload_digest, item.fault) for item in once}) == len(once)


def test_what_was_not_verified_is_a_record_with_its_reason() -> None:
    case = Case(workload="mnist", strategy="torch-dp", world_size=2, device="cuda")
    made = store.not_verified(RUN, case, framework="torch", reason="needs 2 CUDA devices, found 0")
    assert (made.case, made.verdict, made.reason) == (case.id, "not-verified", "needs 2 CUDA devices, found 0")


def test_records_become_a_table_with_dotted_columns(tmp_path: Path) -> None:
    records = [record(timing=timing(1.72)), skipped("torch-dp", "digits-mlp", 2, "no GPU")]
    table = load(write_run(tmp_path / RUN, records))
    assert list(table["verdict"]) == ["equivalent", "not-verified"]
    assert table["timing.speedup.median"][0] == 1.72
    assert table["timing.baselines.whole_machine.speedup.low"][0] == interval(1.72 * 0.72).low
    assert table["environment.python"][0] == "3.11.9"
    assert table["reason"][1] == "no GPU"
    assert table["divergence.rung"].isna().all()


def test_a_table_has_the_columns_of_a_record_even_when_nothing_fills_them(tmp_path: Path) -> None:
    table = load(write_run(tmp_path / RUN, []))
    assert {"case", "verdict", "timing.speedup.median", "evidence.margin", "accuracy.serial"} <= set(table.columns)
    assert len(table) == 0


def test_a_table_can_hold_one_row_per_case(tmp_path: Path) -> None:
    run = write_run(tmp_path / RUN, [record(), record(timing=timing(1.7))])
    assert len(load(run)) == 2
    assert len(load(run, per_case=True)) == 1


def test_a_table_needs_pandas_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingRequirementError, match=r"needs pandas.*pip install"):
        load(write_run(tmp_path / RUN, []))


def test_reading_records_imports_no_pandas() -> None:
    done = python(
        "import sys, harness.store, harness.report; assert 'pandas' not in sys.modules and 'jinja2' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr


def test_evidence_of_every_kind_survives_the_journal(tmp_path: Path) -> None:
    judged = verdict("inconclusive", no_signal=("a",), unresolved=("b",), not_shown={"buffers": "none"})
    (back,) = read(write_run(tmp_path / RUN, [record(conclusion="inconclusive", evidence=judged)])).records
    assert back.evidence == judged


def python(script: str) -> subprocess.CompletedProcess[str]:
    root = Path(store.__file__).parent.parent
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=root, capture_output=True, text=True, check=False
    )


@contextmanager
def unprivileged() -> Iterator[None]:
    """Do without root's right to write everywhere."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
