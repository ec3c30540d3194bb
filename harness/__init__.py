"""Lockstep: does the parallel run compute what the serial run computes, and how much faster is it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.record import Record, Trace, Verdict
from harness.resolve import address
from harness.spec import Case, Check, Job, Optimizer, Schedule, Workload
from harness.strategies.base import strategy
from harness.workloads import workload

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "strategy",
    "workload",
    "Workload",
    "Optimizer",
    "Schedule",
    "Check",
    "Case",
    "Job",
    "Trace",
    "Verdict",
    "Record",
    "address",
    "load",
]


def load(run: str) -> pd.DataFrame:
    """Return the records of a run (a directory, a run id or "latest") as a table with one row a case.

    Raises:
        StoreError: there is nothing to read at ``run``.
    """
    from harness import store

    return store.load(run)
