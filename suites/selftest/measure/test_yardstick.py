"""The yardstick: fixed work that leaves the process where it was."""

from __future__ import annotations

import os

import pytest

from harness.measure import yardstick


def test_it_takes_some_milliseconds() -> None:
    assert 0.0005 < min(yardstick.seconds() for _ in range(3)) < 0.2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity: Linux")
def test_it_runs_on_the_cores_it_is_given_and_comes_back() -> None:
    before = os.sched_getaffinity(0)
    assert yardstick.seconds(tuple(before)) > 0
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity: Linux")
def test_a_core_that_is_not_there_leaves_the_process_where_it_was() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(OSError, match="Invalid argument"):
        yardstick.seconds((min(before), 100_000))
    assert os.sched_getaffinity(0) == before
