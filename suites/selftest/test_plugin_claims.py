"""Tests that report claims: marked ``study``, written by one process, however the test ends."""

from __future__ import annotations

import pytest
from plugin_project import PARITY, Project

from harness import store

STUDY = """
import pytest
from harness.claims import PublishedClaim, exactly

def claim(name, **changes):
    given = dict(study="s", id=name, text="t", quantity="q", published=1.0, source="a paper", where="table 1",
                 kind="recomputed", holds="yes", here=exactly(1.0))
    return PublishedClaim(**(given | changes))

@pytest.mark.parametrize("number", range(4))
def test_study(study, number):
    study.report(claim(str(number)))

def test_that_fails(study):
    study.report(claim("last"))
    raise AssertionError("the claim is written all the same")

def test_without_claims(study):
    pass

def test_plain():
    pass
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("claims"), PARITY)
    project.write("test_study.py", STUDY)
    return project


def test_claims_of_all_workers_are_in_one_run_though_a_test_failed(project: Project) -> None:
    result = project.run("-n", "2", "-m", "study", "-q")
    assert result.code == 1, result.text
    run = store.read(result.run)
    assert sorted(claim.id for claim in run.claims) == ["0", "1", "2", "3", "last"]
    assert {claim.run for claim in run.claims} == {run.info.id}
    assert {claim.test.partition("[")[0] for claim in run.claims} == {
        "test_study.py::test_study",
        "test_study.py::test_that_fails",
    }
    assert (result.run / "index.html").exists()
    # The marker has kept out what reports none.
    assert "1 failed, 5 passed" in result.text
