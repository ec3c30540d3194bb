"""The measurements kept in docs/data that the tables and plots of docs/oracle.md are made of.

``false_alarms.jsonl.gz`` holds the lines of ``bench_false_alarms.py``, ``rounding.json.gz`` what ``bench_rounding.py``
found.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
DOCS = Path(__file__).parents[2] / "docs"
# Beyond so many times its floor a difference is as good as infinite: samples that should not be there have no floor.
HIGHEST, LOWEST = 1e17, 1e-2


def read() -> tuple[list[Row], list[Row], list[Row]]:
    """Return the clean cases, the runs with and without bugs, and the layers of deep networks."""
    with gzip.open(DOCS / "data" / "false_alarms.jsonl.gz", "rt") as file:
        clean = [json.loads(line) for line in file]
    with gzip.open(DOCS / "data" / "rounding.json.gz", "rt") as file:
        rounding = json.load(file)
    judged = [row for row in clean if row["conclusion"] != "failed"]
    return judged, rounding["runs"], rounding["depth"]


def score(row: Row) -> float:
    """Return the closest call of a run over the rungs, within what a plot shows."""
    return float(min(max(row["rungs"].values(), default=0.0), HIGHEST))


def whole(row: Row) -> bool:
    """Whether a run has a bug, and all of it: neither a part of one nor a gradient that is wrong by a chosen share."""
    return row["kind"] != "clean" and ":" not in row["kind"] and not row["kind"].startswith("wrong by")


def partial(row: Row) -> bool:
    """Whether a run has a bug of one tensor, rank, step or element."""
    return ":" in row["kind"]


def scores(rows: Iterable[Row], precision: str) -> list[float]:
    """Return the scores of the runs in one precision."""
    return [score(row) for row in rows if row["precision"] == precision]


def area(clean: Sequence[float], found: Sequence[float]) -> float:
    """Return how often a bug's score exceeds a clean one's, ties counted half."""
    low, high = np.sort(np.asarray(clean)), np.asarray(found)
    below, upto = np.searchsorted(low, high, "left"), np.searchsorted(low, high, "right")
    return float(np.mean((below + upto) / (2 * len(low)))) if len(low) and len(high) else float("nan")


def share_of(kind: str) -> float:
    """Return by how much the gradients of a run are wrong."""
    return float(kind.rpartition(" ")[2])
