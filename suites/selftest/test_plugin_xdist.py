"""Under pytest-xdist: one run, one journal, every reference once, and timing alone on the machine."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from plugin_project import CONFTEST, ONE, PARITY, TIMING, Project, Result

# Two further frameworks with the same reference: it is wanted by two workers at once. Every reference run is noted.
FRAMEWORKS = """
import os, time, uuid
from pathlib import Path
import pytest
from harness import strategy

NOTES = Path(os.environ["LOCKSTEP_TEST_NOTES"])

@strategy("noted-serial", framework="plain", requires=(), backends={"cpu": "none"}, reference_of=None)
def serial(job):
    if job.purpose == "parity":
        (NOTES / f"reference|{job.arrangement.shards}-{job.arrangement.permute}|{uuid.uuid4().hex}").touch()
    return numpy_strategies.serial(job)

@strategy("one-mean", framework="one", requires=(), backends={"cpu": "pipes"}, reference_of="noted-serial",
          world_sizes=(2, 3))
def one(job):
    return numpy_strategies.mean(job)

@strategy("two-mean", framework="two", requires=(), backends={"cpu": "pipes"}, reference_of="noted-serial",
          world_sizes=(2, 3))
def two(job):
    return numpy_strategies.mean(job)

@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    # Who ran what, when; a measurement has run before its test is called.
    began = item.stash.get(BEGAN, None)
    kind = "timed" if "timing" in item.fixturenames else "other"
    case = item.callspec.params.get("ls_offer") if hasattr(item, "callspec") else None
    result = yield
    worker = os.environ.get("PYTEST_XDIST_WORKER", "none")
    name = case.strategy.name if case else "plain"
    (NOTES / f"ran|{kind}|{name}|{worker}|{began}|{time.monotonic()}").touch()
    return result

BEGAN = pytest.StashKey()

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    item.stash[BEGAN] = time.monotonic()
"""
PLAIN = "import pytest\n@pytest.mark.parametrize('i', range(6))\ndef test_plain(i):\n    pass\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("xdist"), PARITY + TIMING, CONFTEST + FRAMEWORKS)
    project.write("test_plain.py", PLAIN)
    return project


@pytest.fixture(scope="module")
def both(project: Project) -> Result:
    return project.run(
        "-n", "2", "--ls-workload=tiny", "-k", "(tiny and -mean and cpu and not (timing and 3)) or test_plain", "-q"
    )


def ran(project: Project) -> list[list[str]]:
    return [note.split("|")[1:] for note in project.noted() if note.startswith("ran|")]


def test_all_cases_pass_and_leave_their_records_in_one_run(both: Result) -> None:
    assert both.code == 0, both.text
    assert len(both.records) == 9
    assert {(r.verdict, r.run) for r in both.records} == {("equivalent", both.run.name)}
    assert all("@" not in r.test and "@" not in r.command for r in both.records)
    assert both.info["exit_status"] == 0
    assert (both.run / "index.html").exists()


def test_the_cases_of_one_framework_stay_on_one_worker(project: Project, both: Result) -> None:
    assert both.records
    workers = defaultdict(set)
    for _kind, strategy, worker, *_times in ran(project):
        workers[strategy].add(worker)
    assert {name: len(who) for name, who in workers.items() if name != "plain"} == {
        "numpy-mean": 1,
        "one-mean": 1,
        "two-mean": 1,
    }
    assert len(set.union(*workers.values())) == 2, "both have worked"


def test_how_many_cases_were_planned_is_known_before_any_of_them_is_judged(both: Result) -> None:
    assert both.info["num_planned"] == len({record.case for record in both.records})


def test_a_reference_that_two_workers_want_is_computed_once(project: Project, both: Result) -> None:
    assert both.records
    runs = [note.split("|")[1] for note in project.noted() if note.startswith("reference|")]
    # The plain one twice: a model of a user's must repeat itself.
    assert sorted(runs) == ["1-None", "1-None", "2-1", "2-None", "3-1", "3-None"]


def test_nothing_else_runs_while_a_case_is_timed(project: Project, both: Result) -> None:
    assert both.records
    spans = [(kind, worker, float(start), float(end)) for kind, _name, worker, start, end in ran(project)]
    timed = [span for span in spans if span[0] == "timed"]
    assert len(timed) == 3
    for own in timed:
        beside = [other for other in spans if other[1] != own[1] and other[2] < own[3] and own[2] < other[3]]
        assert not beside, f"{own} was timed beside {beside}"


def test_nothing_is_left_of_a_run_with_workers(project: Project, both: Result) -> None:
    assert both.records
    assert project.scratch_left() == []


def test_two_runs_collect_in_the_same_order(project: Project) -> None:
    first, second = (
        project.run("--collect-only", "-q", "--ls-workload=tiny", PYTHONHASHSEED=seed).text.splitlines()[:-1]
        for seed in ("1", "2")
    )
    assert len(first) > 12
    assert first == second


def test_an_unknown_name_is_told_once_by_the_controller(tmp_path: Path) -> None:
    result = Project(tmp_path).run("-n", "2", "--ls-strategy=numpy-meen")
    assert result.code == pytest.ExitCode.USAGE_ERROR
    assert result.text.count("unknown strategy 'numpy-meen'; did you mean 'numpy-mean'") == 1
    assert "INTERNALERROR" not in result.text


def test_asking_for_gpus_in_vain_fails_with_workers_too(tmp_path: Path) -> None:
    result = Project(tmp_path).run("-n", "2", "-m", "gpu3", "--ls-workload=tiny", CUDA_VISIBLE_DEVICES="")
    assert result.code == pytest.ExitCode.TESTS_FAILED
    assert "and verified nothing: needs 3 CUDA devices, found 0 (CUDA_VISIBLE_DEVICES: empty)" in result.text


def test_a_case_whose_pytest_worker_dies_is_recorded_and_the_next_one_runs(tmp_path: Path) -> None:
    tests = "import os\ndef test_fatal(case):\n    if case.world_size == 2:\n        os._exit(1)\n"
    result = Project(tmp_path, tests + PARITY).run("-n", "1", *ONE, "--ls-world-size=3")
    assert "crashed while running 'test_case.py::test_fatal[tiny/numpy-mean/2/cpu]'" in result.text
    dead, *others = result.records
    assert (dead.case, dead.framework, dead.verdict) == ("tiny/numpy-mean/2/cpu", "plain", "not-verified")
    assert dead.reason == "the pytest worker that ran it died"
    assert [r.verdict for r in others] == ["not-verified", "equivalent", "equivalent"]
