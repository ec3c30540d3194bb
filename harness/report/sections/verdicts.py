"""Strategies by workloads: which verdicts the matrix of a run shows, and in what order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from harness.record import GRAVITY, Record
from harness.report import words

# A table of no more cells than these shows every case, also where a whole row or column was not verified.
SMALL = 400
# A strategy, on so many ranks of a device.
Row = tuple[str, int, str]


def matrix(cases: Sequence[Record]) -> tuple[list[str], dict[Row, dict[str, Record]]]:
    """Return the workloads, and for each (strategy, world size, device) the record by workload.

    Rows with something wrong come first, then those of the smallest size; references come last. In a large table what
    was not verified has a cell where its strategy and its workload have one that was: it adds no row and no column, and
    so cannot hide the others.
    """
    digests = Counter(workload for workload, _ in {(case.workload, case.workload_digest) for case in cases})
    rows: dict[Row, dict[str, Record]] = {}
    for case in cases:
        ambiguous = digests[case.workload] > 1  # two definitions of one name must not hide each other
        column = f"{case.workload} ({case.workload_digest or 'unknown'})" if ambiguous else case.workload
        rows.setdefault((case.strategy, case.world_size, case.device), {})[column] = case
    if len(rows) * len({column for row in rows.values() for column in row}) > SMALL:
        rows = _without_the_unverified(rows)
    ordered = dict(sorted(rows.items(), key=_place))
    return sorted({column for row in rows.values() for column in row}, key=_natural), ordered


def _without_the_unverified(rows: dict[Row, dict[str, Record]]) -> dict[Row, dict[str, Record]]:
    """Return the rows and columns that show more than that nothing was verified."""
    seen = {place: {column for column, case in row.items() if _shows(case)} for place, row in rows.items()}
    columns = set[str]().union(*seen.values())
    return {
        place: {column: case for column, case in row.items() if column in columns}
        for place, row in rows.items()
        if seen[place]
    }


def _shows(case: Record) -> bool:
    return case.verdict != "not-verified" or case.failed


def _place(item: tuple[Row, dict[str, Record]]) -> tuple[object, ...]:
    (strategy, ranks, device), row = item
    worst = max(GRAVITY.index(words.tone(case)) for case in row.values())
    wrong = worst if worst > GRAVITY.index("equivalent") else 0
    return (ranks < 2, -wrong, device, ranks, _natural(strategy))


def _natural(name: str) -> tuple[tuple[str, int], ...]:
    """Return a name's place where 2 comes before 10."""
    parts = re.split(r"(\d+)", name)
    return tuple((text, int(digits or 0)) for text, digits in zip(parts[::2], [*parts[1::2], ""], strict=True))
