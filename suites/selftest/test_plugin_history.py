"""A timed case held against an earlier run: what got slower fails, what did not passes, what is unlike is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plugin_project import ONE, PARITY, TIMING, Project, Result

from harness.record import Record
from harness.report.html import payload
from harness.timings import Compared

TWICE = TIMING + "\ndef test_timing_again(timing):\n    assert timing.epoch_s\n"
BRIEF = (*ONE, "--ls-budget=0")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("history"), PARITY + TWICE)


@pytest.fixture(scope="module")
def first(project: Project) -> Result:
    found = project.run(*BRIEF)
    assert found.code == pytest.ExitCode.OK, found.text
    return found


def edited(first: Result, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Return a copy of the run whose records are changed on disk."""
    shutil.copytree(first.run, folder)
    path = folder / "records.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        change(record)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def once(times: float) -> Callable[[dict[str, Any]], None]:
    """Return what makes an earlier run's epochs take ``times`` as long."""

    def change(record: dict[str, Any]) -> None:
        if record.get("timing"):
            record["timing"]["epoch_wall_s"] = [times * second for second in record["timing"]["epoch_wall_s"]]

    return change


def against(project: Project, name: str, *arguments: str) -> Result:
    """Run the case again; its records go into a folder of that name."""
    found = project.run(*BRIEF, f"--ls-report-dir={name}", *arguments)
    return Result(code=found.code, text=found.text, reports=project.folder / name)


def compared(record: Record) -> Compared:
    assert record.timing is not None
    assert record.timing.compared is not None
    return record.timing.compared


def test_a_case_that_got_slower_fails_one_test_and_keeps_its_verdict(
    project: Project, first: Result, tmp_path: Path
) -> None:
    fast = edited(first, tmp_path / "fast", once(0.01))
    found = against(project, "slower", f"--ls-compare-to={fast}", "--ls-fail-slower=5%")
    assert found.code == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 2 passed" in found.text
    assert "tiny/numpy-mean/2/cpu: got slower than --ls-fail-slower 5% allows: slower than " in found.text
    timed = [record for record in found.records if record.timing is not None]
    assert [compared(record).outcome for record in timed] == ["slower", "slower"]
    assert {record.verdict for record in found.records} == {"equivalent"}
    assert compared(timed[0]).floor == 0.05
    assert "time against an earlier run" in found.text
    details = payload.unpack((found.run / "index.html").read_text())["cases-0"]
    assert any("Against an earlier run: slower than" in told for one in details for told in one["remarks"])


def test_a_case_that_got_slower_passes_where_nobody_asked_to_fail(
    project: Project, first: Result, tmp_path: Path
) -> None:
    fast = edited(first, tmp_path / "fast", once(0.01))
    found = against(project, "told", f"--ls-compare-to={fast}")
    assert found.code == pytest.ExitCode.OK
    assert "slower than " in found.text


def test_the_same_code_passes_against_the_latest_run_alike(project: Project, first: Result) -> None:
    # The project's own folder of reports holds the first run.
    shutil.copytree(first.reports, project.folder / "same")
    found = project.run(*BRIEF, "--ls-report-dir=same", "--ls-fail-slower=90%")
    assert found.code == pytest.ExitCode.OK, found.text
    assert f"{first.run.name}: " in found.text.partition("time against an earlier run")[2]


def test_the_first_run_of_all_has_nothing_to_be_compared_with(project: Project) -> None:
    found = against(project, "alone", "--ls-compare-to=auto", "--ls-fail-slower=5%")
    assert found.code == pytest.ExitCode.OK
    assert "timed this case" in found.text


def test_a_baseline_that_is_unlike_fails_a_run_that_was_to_be_held_against_it(
    project: Project, first: Result, tmp_path: Path
) -> None:
    def other(record: dict[str, Any]) -> None:
        record["environment"]["numpy"] = "1.0"

    unlike = edited(first, tmp_path / "unlike", other)
    found = against(project, "unlike", f"--ls-compare-to={unlike}", "--ls-fail-slower=90%")
    assert found.code == pytest.ExitCode.TESTS_FAILED
    assert "and compared nothing: not compared with" in found.text
    assert "numpy 1.0 before" in found.text
    assert "1 failed, 2 passed" in found.text
    assert "tiny/numpy-mean/2/cpu: --ls-fail-slower cannot be answered: not compared with" in found.text
    assert "allow a difference of versions (--ls-allow-difference versions)" in found.text
    allowed = against(
        project, "allowed", f"--ls-compare-to={unlike}", "--ls-fail-slower=90%", "--ls-allow-difference=versions"
    )
    assert allowed.code == pytest.ExitCode.OK, allowed.text


def test_auto_tells_in_the_summary_that_no_earlier_run_is_alike(project: Project, first: Result) -> None:
    def other(record: dict[str, Any]) -> None:
        record["environment"]["numpy"] = "1.0"

    edited(first, project.folder / "auto" / first.run.name, other)
    found = project.run(*BRIEF, "--ls-report-dir=auto", "--ls-fail-slower=5%")
    assert found.code == pytest.ExitCode.OK, found.text
    assert "1 case was not compared: not alike: numpy 1.0 before" in found.text


def test_a_percentage_that_is_none_is_refused_in_words(project: Project) -> None:
    for option in ("--ls-fail-slower", "--ls-precision"):
        found = project.run(f"{option}=abc")
        assert found.code == pytest.ExitCode.USAGE_ERROR
        assert "expected a percentage between 0 and 100 %, like 2% or 0.02, but got abc" in found.text


def test_a_baseline_that_cannot_be_read_stops_at_once(project: Project, first: Result, tmp_path: Path) -> None:
    def newer(record: dict[str, Any]) -> None:
        record["schema"] = 999

    absent = against(project, "absent", "--ls-compare-to=no-such-run")
    assert absent.code == pytest.ExitCode.USAGE_ERROR
    assert "--ls-compare-to: unknown run 'no-such-run'" in absent.text
    schema = against(project, "schema", f"--ls-compare-to={edited(first, tmp_path / 'newer', newer)}")
    assert schema.code == pytest.ExitCode.USAGE_ERROR
    assert "has schema 999" in schema.text
