"""A case whose times cannot have been, or could not be had, keeps its verdict and says why it is not timed."""

from __future__ import annotations

import pytest
from plugin_project import CONFTEST, ONE, TIMING, Project, Result

NAMES = ("goes-back", "takes-no-time", "counts-otherwise", "leaves-early")
BAD_CLOCKS = """
import msgspec
import rank_behaviours
from harness import strategy
def untimed(name):
    return strategy(name, framework="plain", requires=(), backends={"cpu": "x"}, reference_of="plain-serial")
def told(job, what):
    job = msgspec.structs.replace(job, options={"guilty": 1, "told": what})
    return rank_behaviours.tells(job) if job.purpose == "timing" else numpy_strategies.mean(job)
@untimed("goes-back")
def goes_back(job):
    return told(job, "a backward clock")
@untimed("takes-no-time")
def takes_no_time(job):
    return told(job, "no time")
@untimed("counts-otherwise")
def counts_otherwise(job):
    return told(job, "other samples")
@untimed("leaves-early")
def leaves_early(job):
    job = msgspec.structs.replace(job, options={"guilty": 1})
    return rank_behaviours.returns_early(job) if job.purpose == "timing" else numpy_strategies.mean(job)
"""


@pytest.fixture(scope="module")
def untimed(tmp_path_factory: pytest.TempPathFactory) -> Result:
    project = Project(tmp_path_factory.mktemp("untimed"), TIMING, CONFTEST + BAD_CLOCKS)
    return project.run(*ONE[:1], *(f"--ls-strategy={name}" for name in NAMES), *ONE[2:])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("goes-back", "rank 1 took a turn that cannot be timed: expected an epoch to end after its start but it ended"),
        ("takes-no-time", "expected 8 samples to take time but the epoch took 0 s; stamp its start and its end with"),
        ("counts-otherwise", "expected every rank to tell the number of samples of all ranks, 8 as most do, but it"),
        ("leaves-early", "rank 1 returned before its turns were over: expected an epoch for every turn but it takes"),
    ],
)
def test_a_case_whose_times_cannot_be_keeps_its_verdict_and_says_why(untimed: Result, name: str, why: str) -> None:
    (record,) = (record for record in untimed.records if record.strategy == name)
    assert record.verdict == "equivalent"
    assert record.evidence is not None
    assert "; not timed: RankFailure: " in record.reason
    assert why in record.reason
    assert record.timing is None
    assert untimed.code == pytest.ExitCode.TESTS_FAILED
