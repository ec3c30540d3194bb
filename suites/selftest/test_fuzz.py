from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import plugin_project as project
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import workloads
from harness.fuzz import LONG_S, SHORT_S, Shaker, delay_s
from harness.spec import Job

JOB = Job(function="nothing:here", strategy="torch-ddp", workload=workloads.get("digits-mlp"), world_size=2)


@given(st.integers(0, 2**40), st.integers(0, 63), st.text(max_size=20), st.integers(0, 10**6))
def test_a_delay_depends_on_its_key_alone_and_is_never_long(seed: int, rank: int, site: str, visit: int) -> None:
    drawn = delay_s(seed, rank, site, visit)
    assert drawn == delay_s(seed, rank, site, visit)
    assert 0 <= drawn <= SHORT_S or drawn == LONG_S


def test_most_visits_go_on_at_once_and_few_take_long() -> None:
    drawn = np.array([delay_s(1, 0, "forward", visit) for visit in range(20_000)])
    assert np.mean(drawn == 0) == pytest.approx(0.75, abs=0.02)
    assert np.mean(drawn == LONG_S) == pytest.approx(0.01, abs=0.004)
    assert drawn[(drawn > 0) & (drawn < LONG_S)].mean() == pytest.approx(SHORT_S / 2, rel=0.05)


@pytest.mark.parametrize("other", [(2, 0, "forward"), (1, 1, "forward"), (1, 0, "gradient")])
def test_seeds_ranks_and_sites_are_delayed_independently(other: tuple[int, int, str]) -> None:
    first = [delay_s(1, 0, "forward", visit) for visit in range(500)]
    second = [delay_s(*other, visit) for visit in range(500)]
    both = np.mean([one > 0 and two > 0 for one, two in zip(first, second, strict=True)])
    assert both == pytest.approx(0.25**2, abs=0.04)


def test_a_shaken_job_waits_at_its_visits_as_drawn_and_another_one_never(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    shaker, idle = Shaker(_shaken(3)), Shaker(JOB)
    for _ in range(50):
        shaker.pause("step")
        idle.pause("step")
    expected = [delay_s(3, 0, "step", visit) for visit in range(50)]
    assert waited == [delay for delay in expected if delay]
    assert shaker.on
    assert not idle.on


def test_the_record_of_a_shaken_run_names_the_seed_and_so_does_the_command_that_repeats_it(tmp_path: Path) -> None:
    result = project.Project(tmp_path).run(*project.ONE, "--ls-fuzz-schedule=7")
    assert result.code == 0, result.text
    (record,) = result.records
    assert record.environment["schedule_fuzz"] == 7
    assert " --ls-fuzz-schedule=7" in record.command


def _shaken(seed: int) -> Job:
    return Job(function="nothing:here", strategy="torch-ddp", workload=JOB.workload, world_size=2, fuzz=seed)
