"""Norms of many tensors at once, and the distance of two tables."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import TraceError
from harness.oracles.tables import Layout, distances, layout, norms, require_steps
from harness.record import RungFile, Tensor

SIZES = (7, 1, 300)


@pytest.fixture
def columns() -> Layout:
    tensors = tuple(Tensor(name=f"tensor{i}", shape=(size,)) for i, size in enumerate(SIZES))
    return layout(RungFile(file="-", steps=(0,), tensors=tensors))


def test_a_norm_is_that_of_the_tensors_own_values(columns: Layout) -> None:
    rows = np.random.default_rng(0).standard_normal((4, sum(SIZES)))
    expected = [[np.linalg.norm(part) for part in np.split(row, np.cumsum(SIZES)[:-1])] for row in rows]
    np.testing.assert_allclose(norms(rows, columns), expected, rtol=1e-14)


def test_a_distance_is_the_norm_of_the_difference_and_leaves_both_as_they_were(columns: Layout) -> None:
    draw = np.random.default_rng(1)
    rows, others = draw.standard_normal((2, 5, sum(SIZES)))
    kept = rows.copy(), others.copy()
    np.testing.assert_array_equal(distances(rows, others, columns), norms(rows - others, columns))
    np.testing.assert_array_equal((rows, others), kept)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1e200, 1e200), (np.inf, np.inf), (np.nan, np.inf), (0.0, 0.0)],
    ids=["its square overflows", "infinite", "no number", "nothing"],
)
def test_a_value_that_is_beyond_squaring_stays_what_it_is(columns: Layout, value: float, expected: float) -> None:
    rows, others = np.zeros((2, 1, sum(SIZES)))
    rows[0, 7] = value
    assert norms(rows, columns).tolist() == [[0.0, expected, 0.0]]
    assert distances(rows, others, columns).tolist() == [[0.0, expected, 0.0]]
    assert distances(others, rows, columns).tolist() == [[0.0, expected, 0.0]]


def test_steps_far_apart_are_told_without_counting_what_lies_between() -> None:
    steps = (0, 1 << 62)
    like = RungFile(file="-", steps=(3, 4, 5), tensors=())
    with pytest.raises(TraceError, match=r"steps 3 to 5 as in the reference but got \[0, 4611686018427387904\]"):
        require_steps("parameters", RungFile(file="-", steps=steps, tensors=()), like=like, who="rank 1")
