"""What a run leaves behind: a record a test, a page, and nothing in the scratch folder."""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec
import pytest
from plugin_project import CONFTEST, ONE, PARITY, TIMING, Project, Result

import harness
from harness import store
from harness.record import Record

BAD = "import numpy_strategies\n" + "".join(
    f"numpy_strategies.misbehaving({name!r})\n" for name in ("sum", "raises", "dies")
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("records"), PARITY + TIMING, CONFTEST + BAD)


@pytest.fixture(scope="module")
def everyday(project: Project) -> Result:
    # A number of tests that fail, and one that passes.
    return project.run("--ls-workload=tiny", "-k", "numpy and cpu and not 3")


def record_of(result: Result, strategy: str, test: str) -> Record:
    (found,) = (r for r in result.records if r.strategy == strategy and f"::test_{test}[" in r.test)
    return found


def test_every_test_of_a_case_leaves_one_record_in_order(everyday: Result) -> None:
    assert [(r.strategy, r.test.partition("[")[0]) for r in everyday.records] == [
        (f"numpy-{name}", f"test_case.py::test_{test}")
        for test in ("parity", "timing")
        for name in ("dies", "mean", "raises", "sum")
    ]
    assert everyday.code == pytest.ExitCode.TESTS_FAILED
    assert {r.run for r in everyday.records} == {everyday.run.name}


def test_an_equivalent_case_is_recorded_with_its_evidence(everyday: Result) -> None:
    record = record_of(everyday, "numpy-mean", "parity")
    assert (record.verdict, record.framework, record.reference, record.dtype) == (
        "equivalent",
        "plain",
        "plain",
        "float64",
    )
    assert record.evidence is not None
    assert record.margin == record.evidence.margin
    assert record.timing is None
    assert record.duration_s > 0
    assert record.environment["num_cores"] >= 1  # type: ignore[operator]
    assert record.features["optimizer"] == "sgd"


def test_a_timed_case_is_recorded_with_its_times_and_accuracy(everyday: Result) -> None:
    record = record_of(everyday, "numpy-mean", "timing")
    assert record.verdict == "equivalent"
    assert record.timing is not None
    assert record.timing.speedup is not None
    assert [len(epochs) for epochs in record.timing.epoch_s] == [7, 7]
    assert [baseline.name for baseline in record.timing.baselines] == [
        "one share",
        "whole machine",
        "per-rank batch",
        "independent",
    ]
    assert record.accuracy is not None
    assert record.accuracy.num_held_out == 64


def test_a_case_that_differs_shows_no_speedup(everyday: Result) -> None:
    record = record_of(everyday, "numpy-sum", "timing")
    assert record.verdict == "different"
    assert record.divergence is not None
    assert (record.divergence.rung, record.divergence.step) == ("gradients before clipping", 0)
    assert record.timing is not None
    assert (record.timing.speedup, record.timing.efficiency) == (None, None)
    assert str(record.timing.struck).startswith("the case is different")


def test_a_rank_that_fails_is_told_without_a_traceback_of_ours(everyday: Result) -> None:
    record = record_of(everyday, "numpy-dies", "parity")
    assert record.verdict == "not-verified"
    assert "numpy-dies rank 1 exited with code 3" in record.reason
    assert "ValueError: rank 0 has had enough" in record_of(everyday, "numpy-raises", "parity").reason
    assert "During handling" not in everyday.text
    assert "harness/launchers" not in everyday.text


def test_a_failing_test_names_the_first_divergence(everyday: Result) -> None:
    assert "AssertionError: <Verdict different: differs first at step 0, on every rank, in gradients" in everyday.text


def test_the_page_and_the_summary_are_there(everyday: Result) -> None:
    assert "numpy-sum" in (everyday.run / "index.html").read_text()
    assert f"report: reports/{everyday.run.name}/index.html" in everyday.text
    assert everyday.info["exit_status"] == 1
    assert everyday.info["asked"] == "--ls-workload tiny"
    assert everyday.info["command"] == "pytest --ls-workload=tiny -k 'numpy and cpu and not 3'"


def test_nothing_is_left_in_the_scratch_folder(project: Project, everyday: Result) -> None:
    assert everyday.records
    assert project.scratch_left() == []


def test_load_returns_the_records_as_a_table(everyday: Result) -> None:
    table = harness.load(str(everyday.run))
    assert len(table) == len(everyday.records)
    timed = table[(table.strategy == "numpy-mean") & table["timing.speedup.median"].notna()]
    assert list(timed.case) == ["tiny/numpy-mean/2/cpu"]


def test_the_command_of_a_record_repeats_exactly_its_case(tmp_path: Path) -> None:
    project = Project(tmp_path, PARITY + TIMING)
    # Three ranks are not part of the everyday run of a workload that is no smoke test.
    unusual = ("--ls-power=off", "--ls-precision=0.05", "--ls-budget=4", "--ls-timeout=60")
    first = project.run(*ONE[:2], "--ls-world-size=3", "--ls-device=cpu", "-k", "parity", *unusual)
    (record,) = first.records
    assert record.command.endswith(" --ls-device=cpu " + " ".join(unusual)), "what is as usual is not repeated"
    pytest_, *arguments = shlex.split(record.command)
    assert pytest_ == "pytest"
    again = project.run(*arguments, "--ls-report-dir=again")
    assert "1 passed" in again.text
    (repeated,) = Result(code=0, text="", reports=project.folder / "again").records
    assert (repeated.case, repeated.test, repeated.command) == (record.case, record.test, record.command)


ODD = """
def test_idle(case):
    assert case.world_size > 1
def test_fails(verdict):
    assert not verdict.equivalent, "as it should be"
def test_hasty(run):
    run.timing()
def test_untimed(timing):
    assert timing.epoch_s
"""
UNTIMED = """
from harness import strategy
@strategy("untimed", framework="plain", requires=(), backends={"cpu": "x"}, reference_of="plain-serial")
def train(job):
    assert job.purpose == "parity", "not when it counts"
    return numpy_strategies.mean(job)
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    project = Project(tmp_path_factory.mktemp("odd"), ODD, CONFTEST + UNTIMED)
    result = project.run(*ONE[:1], "--ls-strategy=untimed", *ONE[2:])
    return {record.test.partition("[")[0].rpartition("_")[2]: record for record in result.records}


def test_a_test_that_never_judges_its_case_says_so(odd: dict[str, Record]) -> None:
    assert (odd["idle"].verdict, odd["idle"].reason) == ("not-verified", "the test ended before a verdict")


def test_what_a_test_makes_of_a_verdict_does_not_change_it(odd: dict[str, Record]) -> None:
    assert odd["fails"].verdict == "equivalent"


def test_timing_needs_the_fixture_that_keeps_the_machine_quiet(odd: dict[str, Record]) -> None:
    assert "UsageError: expected a test that asks for the fixture timing" in odd["hasty"].reason


def test_a_case_that_is_judged_but_cannot_be_timed_says_why(odd: dict[str, Record]) -> None:
    assert odd["untimed"].verdict == "equivalent"
    assert "; not timed: RankFailure: " in odd["untimed"].reason
    assert "AssertionError: not when it counts" in odd["untimed"].reason


@pytest.mark.parametrize("fault", ["no folder", "no space"])
def test_where_the_report_cannot_be_written_it_goes_elsewhere_and_the_run_fails(tmp_path: Path, fault: str) -> None:
    fixed = "from harness import store\nstore.new_run_id = lambda: 'the-run'\n"
    project = Project(tmp_path, PARITY, fixed + CONFTEST)
    if fault == "no folder":
        project.write("reports", "a file")
    else:
        project.write("reports/the-run/run.json", "")
        (project.folder / "reports/the-run/records.jsonl").symlink_to("/dev/full")
    result = project.run(*ONE)
    assert "1 passed" in result.text
    assert result.code == pytest.ExitCode.TESTS_FAILED
    why = {"no folder": "Not a directory", "no space": "No space left on device"}[fault]
    assert f"expected to read and write records in {project.folder}/reports/the-run but {why}" in result.text
    assert "choose another place with --ls-report-dir DIR; the records are in " in result.text
    (elsewhere,) = project.temporary.glob("lockstep-reports-*")
    kept = store.read(elsewhere / "the-run")
    assert [record.verdict for record in kept.records] == ["equivalent"]
    assert kept.info.exit_status == 1
    assert (elsewhere / "the-run/index.html").exists()


def test_a_full_scratch_folder_is_told_with_the_way_out(tmp_path: Path) -> None:
    # As on a file system without room: nothing longer than 4 kB can be written. The folder of the records is fine.
    limited = """
import resource
def pytest_runtest_setup(item):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 1 << 30))
def pytest_runtest_teardown(item):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
"""
    project = Project(tmp_path, conftest=CONFTEST + limited)
    result = project.run(*ONE)
    assert f"StoreError: expected to write scratch files in {project.scratch}" in result.text
    assert " written" in result.text  # numpy's words, without the system's
    assert "free room there, or name another folder in $LOCKSTEP_SCRATCH" in result.text
    assert result.code == pytest.ExitCode.TESTS_FAILED
    assert result.verdicts() == {"tiny/numpy-mean/2/cpu": "not-verified"}
    assert project.scratch_left() == []


def test_a_scratch_folder_that_cannot_be_made_is_told_with_the_way_out(tmp_path: Path) -> None:
    project = Project(tmp_path)
    result = project.run(*ONE, LOCKSTEP_SCRATCH=str(project.write("full", "a file")))
    assert "StoreError: expected a folder for scratch files in" in result.text
    assert "name one in $LOCKSTEP_SCRATCH" in result.text
    assert [msgspec.structs.asdict(r)["verdict"] for r in result.records] == ["not-verified"]


def test_a_run_that_stops_early_says_how_many_cases_did_not_run(tmp_path: Path) -> None:
    result = Project(tmp_path, "def test_parity(case):\n    assert case is None\n").run(*ONE, "--ls-world-size=3", "-x")
    assert result.info["num_planned"] == 2
    assert len(result.records) == 1
    assert "1 case did not run: the run stopped before" in result.text
    assert "1 of 2 cases: 1 failed" in result.text
