"""The data order: every sample exactly once, and the rank that breaks it named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.errors import TraceError
from harness.oracles.order import compare_order
from harness.record import RungFile, Tensor

SERIAL = [[4, 7, 1, 9, 3, 0], [2, 8, 5]]


def order(path: Path, rows: list[list[int]], width: int = 6) -> RungFile:
    table = np.array([row + [-1] * (width - len(row)) for row in rows])
    np.save(path, table)
    return RungFile(
        file=str(path), steps=tuple(range(len(rows))), tensors=(Tensor(name="samples", shape=(table.shape[1],)),)
    )


def mistakes(tmp_path: Path, *ranks: list[list[int]], accumulation: int = 1) -> list[tuple[int, int, str]]:
    """Return (step, rank, text) of every mistake."""
    reference = order(tmp_path / "serial.npy", SERIAL)
    files = {rank: order(tmp_path / f"{rank}.npy", rows, width=8) for rank, rows in enumerate(ranks)}
    comparison, found = compare_order(reference, files, accumulation=accumulation)
    assert comparison.deviation.sum() == sum(map(len, found.values()))
    return [(step, mistake.rank, mistake.text) for step, all_of in found.items() for mistake in all_of]


def test_shards_that_hold_every_sample_once_are_right_in_any_order(tmp_path: Path) -> None:
    assert mistakes(tmp_path, [[4, 7, 1], [2, 8]], [[9, 3, 0], [5]]) == []
    assert mistakes(tmp_path, [[0, 3, 9], [8]], [[1, 7, 4], [5, 2]]) == []


def test_one_process_may_hold_all_samples(tmp_path: Path) -> None:
    assert mistakes(tmp_path, SERIAL) == []


def test_a_rank_that_starts_one_sample_early_is_named(tmp_path: Path) -> None:
    assert mistakes(tmp_path, [[4, 7, 1], [2, 8]], [[1, 9, 3, 0], [5]]) == [
        (0, 1, "rank 1 trained sample 1, which rank 0 has, too")
    ]


@pytest.mark.parametrize("guilty", [0, 1])
def test_the_rank_with_the_wrong_shard_is_named_and_not_its_owner(tmp_path: Path, guilty: int) -> None:
    right = [[4, 7, 1], [9, 3, 0]]
    ranks = [[right[1 - guilty], [2, 8]], [right[1 - guilty], [5]]]
    ranks[1 - guilty][0] = right[1 - guilty]
    found = mistakes(tmp_path, *ranks)
    assert {(step, rank) for step, rank, _ in found} == {(0, guilty)}
    assert len(found) == 6, "three samples too often, three not at all"


def test_a_dropped_sample_is_told_of_the_rank_it_belongs_to(tmp_path: Path) -> None:
    assert mistakes(tmp_path, [[4, 7, 1], [2, 8]], [[9, 3, 0], []]) == [(1, 1, "no rank trained sample 5")]


def test_a_sample_of_another_step_is_told(tmp_path: Path) -> None:
    found = mistakes(tmp_path, [[4, 7, 1], [2, 6]], [[9, 3, 0], [5]])
    assert (1, 0, "rank 0 trained sample 6, which does not belong to this step") in found
    assert (1, 0, "no rank trained sample 8") in found


def test_a_sample_trained_twice_by_one_rank_is_told(tmp_path: Path) -> None:
    found = mistakes(tmp_path, [[4, 7, 1], [2, 8]], [[9, 3, 0], [5, 5]])
    assert found == [(1, 1, "rank 1 trained sample 5 2 times, expected 1")]


def test_accumulation_tells_whose_a_sample_is(tmp_path: Path) -> None:
    """Micro-batches (4 7 1) and (9 3 0): rank 0 owns 4 7 and 9 3, rank 1 owns 1 and 0."""
    right = [[4, 7, 9, 3], [2, 8]], [[1, 0], [5]]
    assert mistakes(tmp_path, *right, accumulation=2) == []
    stolen = [[4, 7, 9, 3, 0], [2, 8]], [[1, 0], [5]]
    assert mistakes(tmp_path, *stolen, accumulation=2) == [(0, 0, "rank 0 trained sample 0, which rank 1 has, too")]


def test_a_table_of_something_else_is_bad_input(tmp_path: Path) -> None:
    reference = order(tmp_path / "serial.npy", SERIAL)
    other = RungFile(file=reference.file, steps=(0, 1), tensors=(Tensor(name="indices", shape=(6,)),))
    with pytest.raises(TraceError, match="expected the one tensor 'samples'"):
        compare_order(reference, {0: other})
