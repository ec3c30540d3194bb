"""``--junitxml``: what Lockstep found out stands in it, with and without pytest-xdist, whatever a test says."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from plugin_project import ONE, Project, Result

from fixtures.sample_records import hostile, record, sample, timing
from harness.report import headline
from harness.report import summary as summaries
from harness.report.export import junit
from harness.store import read

TESTS = r"""
import pytest
def test_parity(verdict):
    assert verdict.equivalent, verdict
def test_hostile(verdict):
    raise ValueError("]]><script>\x00\x1b[31m & \"")
def test_skipped(run):
    pytest.skip("<not> today")
def test_plain():
    pass
"""


@pytest.fixture(scope="module", params=["alone", "xdist"])
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Result:
    workers = ("-n2",) if request.param == "xdist" else ()
    return Project(tmp_path_factory.mktemp("junit"), TESTS).run(*ONE, *workers, "--junitxml=junit.xml")


def suite(done: Result) -> ET.Element:
    found = ET.parse(done.reports.parent / "junit.xml").getroot().find("testsuite")
    assert found is not None
    return found


def properties(element: ET.Element | None) -> dict[str | None, str | None]:
    return {} if element is None else {one.get("name"): one.get("value") for one in element.iter("property")}


def test_a_case_has_its_verdict_and_the_command_that_repeats_it(done: Result) -> None:
    tests = {str(one.get("name")).partition("[")[0]: properties(one) for one in suite(done).iter("testcase")}
    (kept,) = [one for one in done.records if "test_parity" in one.test]
    assert tests["test_parity"] == {
        "lockstep.case": "tiny/numpy-mean/2/cpu",
        "lockstep.verdict": "equivalent",
        "lockstep.reason": kept.reason,
        "lockstep.reference": "plain",
        "lockstep.margin": str(kept.margin),
        "lockstep.command": kept.command,
    }
    assert tests["test_skipped"]["lockstep.verdict"] == "not verified"
    assert tests["test_skipped"]["lockstep.reason"] == "<not> today"
    assert tests["test_hostile"]["lockstep.verdict"]
    assert tests["test_plain"] == {}


def test_the_suite_has_the_run_and_its_answer(done: Result) -> None:
    found = properties(suite(done).find("properties"))
    summary = summaries.summarise(read(done.run))
    assert found == {
        "lockstep.run": done.run.name,
        "lockstep.answer": headline.answer(summary),
        "lockstep.tally": summaries.tally(summary),
    }


def test_a_speed_up_comes_with_its_interval() -> None:
    found = dict(junit.of_case(record(timing=timing(1.8))))
    assert [found[f"lockstep.{name}"] for name in ("speedup", "speedup.low", "speedup.high")] == [
        "1.8",
        str(1.8 * 0.965),
        str(1.8 * 1.035),
    ]
    assert found["lockstep.efficiency"] == "0.9"


def test_a_struck_case_has_no_speed_up() -> None:
    found = dict(junit.of_case(record(conclusion="different", timing=timing(1.8))))
    assert found["lockstep.verdict"] == "different"
    assert not {name for name in found if "speedup" in name or "efficiency" in name}


def test_every_property_is_a_text_that_can_be_sent() -> None:
    for one in (*sample(), *hostile()):
        for name, value in junit.of_case(one):
            assert name.startswith("lockstep.")
            assert value.encode().decode() == value
