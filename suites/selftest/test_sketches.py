"""Sketches: those of pieces add up to the whole's, their norm is the tensor's, and no structure hides in them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.record import SKETCH_SIZE
from harness.sketches import FOLD, MOST_ROWS, matrix_of, sketch

Shape = tuple[int, ...]
# Matrices of one band and of several, folded ones, a convolution's weight, and lines.
SHAPES: list[Shape] = [(200, 30), (3, 700), (40, 3, 3, 3), (2 * FOLD + 100,), (100,), (1, 5), (1030, 2), (1,)]
any_shape = st.sampled_from(SHAPES)


def drawn(shape: Shape, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def ratio(value: np.ndarray) -> float:
    """How long a tensor's sketch is beside the tensor."""
    return float(np.linalg.norm(sketch(value)) / np.linalg.norm(value))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_the_sketches_of_boxes_add_up_to_the_sketch_of_the_whole(data: st.DataObject) -> None:
    value = drawn(data.draw(any_shape))
    whole = sketch(value)
    boxes = [(slice(None),) * value.ndim]
    for axis, size in enumerate(value.shape):
        cut = data.draw(st.integers(0, size))
        halves = slice(0, cut), slice(cut, size)
        boxes = [(*box[:axis], half, *box[axis + 1 :]) for box in boxes for half in halves]
    starts = [tuple(cut.start for cut in box) for box in boxes]
    parts = [sketch(value[box], shape=value.shape, start=start) for box, start in zip(boxes, starts, strict=True)]
    np.testing.assert_allclose(np.sum(parts, axis=0), whole, rtol=0, atol=1e-13 * float(np.linalg.norm(value)))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_the_sketches_of_flat_ranges_add_up_to_the_sketch_of_the_whole(data: st.DataObject) -> None:
    value = drawn(data.draw(any_shape))
    cuts = sorted(data.draw(st.lists(st.integers(0, value.size), max_size=4)))
    ends = [0, *cuts, value.size]
    flat = value.reshape(-1)
    parts = [sketch(flat[a:b], shape=value.shape, start=(a,)) for a, b in itertools.pairwise(ends)]
    np.testing.assert_allclose(np.sum(parts, axis=0), sketch(value), rtol=0, atol=1e-13 * float(np.linalg.norm(value)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_sketch_is_linear_and_has_512_numbers(shape: Shape) -> None:
    one, other = drawn(shape, 1), drawn(shape, 2)
    assert sketch(one).shape == (SKETCH_SIZE,)
    np.testing.assert_allclose(sketch(2 * one - other), 2 * sketch(one) - sketch(other), rtol=0, atol=1e-11)
    assert not sketch(np.zeros(shape)).any()


def test_an_empty_piece_has_a_sketch_of_zeros() -> None:
    assert not sketch(np.empty((0, 30)), shape=(200, 30), start=(200, 0)).any()
    assert not sketch(np.empty(0), shape=(200, 30), start=(6000,)).any()


@pytest.mark.parametrize("shape", [(300, 200), (64, 64, 3, 3), (50_000,), (2000, 40)], ids=str)
def test_the_norm_of_a_dense_tensor_is_kept_within_three_tenths(shape: Shape) -> None:
    assert [ratio(drawn(shape, seed)) for seed in range(20)] == pytest.approx([1] * 20, abs=0.3)


@pytest.mark.parametrize("shape", [(700, 90), (30, 4000), (100_000,)], ids=str)
def test_a_single_element_is_always_seen(shape: Shape) -> None:
    for place in np.random.default_rng(3).integers(math.prod(shape), size=50):
        value = np.zeros(shape)
        value.flat[place] = 1.0
        # The product of two weights, each between half and one and a half but for their scale.
        assert 0.25 * 12 / 13 <= ratio(value) <= 2.25 * 12 / 13


def rank_one(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.outer(drawn((rows,), seed), drawn((columns,), seed + 1))


def two(shape: Shape, other: tuple[int, int], sign: float) -> np.ndarray:
    value = np.zeros(shape)
    value[0, 0], value[other] = 1.0, sign
    return value


ADVERSARIES = {
    "equal rows": np.tile(drawn((1, 90)), (700, 1)),
    "equal columns": np.tile(drawn((700, 1)), (1, 90)),
    "all ones": np.ones((700, 90)),
    "rows of +1 and -1": np.where(np.arange(700) % 2, 1.0, -1.0)[:, None] * np.ones((700, 90)),
    "a chess board": np.where(np.add.outer(np.arange(700), np.arange(90)) % 2, 1.0, -1.0),
    "one row": np.eye(700, 1) * np.ones(90),
    "one column": np.ones((700, 1)) * np.eye(1, 90),
    "the upper half against the lower": np.repeat([1.0, -1.0], 350)[:, None] * np.ones((700, 90)),
    "a diagonal": np.eye(700, 90),
}


@pytest.mark.parametrize("value", ADVERSARIES.values(), ids=ADVERSARIES)
def test_no_structure_cancels(value: np.ndarray) -> None:
    assert 0.3 <= ratio(value) <= 3


def test_of_many_differences_of_low_rank_none_shrinks_to_a_hundredth() -> None:
    shrunk = [ratio(rank_one(700, 90, seed)) for seed in range(100)]
    shrunk += [
        ratio(two((700, 90), (row, column), sign)) for row in (0, 1) for column in range(1, 90, 4) for sign in (-1, 1)
    ]
    assert min(shrunk) > 0.01
    assert 0.7 < np.median(shrunk) < 1.3


def test_weights_of_one_and_minus_one_would_hide_what_these_show() -> None:
    # The control: with signs alone two equal elements cancel exactly wherever their signs differ.
    signs = np.sign(np.random.default_rng(0).normal(size=700))
    other = int(np.flatnonzero(signs != signs[0])[0])
    value = two((700, 90), (other, 0), 1.0)
    assert not (signs @ value).any()
    assert ratio(value) > 0.01


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_what_is_not_finite_shows_in_the_sketch(odd: float) -> None:
    value = drawn((200, 30))
    value[150, 7] = odd
    assert not np.isfinite(np.linalg.norm(sketch(value)))


def test_in_float32_a_sketch_is_as_exact_as_a_few_roundings_of_the_tensor() -> None:
    for shape in [(5 * MOST_ROWS * 16, 12), (300, 300), (200_000,)]:
        value = drawn(shape).astype(np.float32)
        apart = np.linalg.norm(sketch(value) - sketch(value.astype(np.float64)))
        assert 0 < apart < 8 * 2**-23 * np.linalg.norm(value)


def test_another_library_s_products_give_the_same_sketch_but_for_rounding() -> None:
    torch = pytest.importorskip("torch")
    from harness.loops.torch_taps import multiplied

    for kind, unit in (("float64", 2**-52), ("float32", 2**-23)):
        value = drawn((700, 90)).astype(kind)
        other = sketch(torch.from_numpy(value), multiply=multiplied)
        piece = sketch(torch.from_numpy(value)[10:, 5:], shape=(700, 90), start=(10, 5), multiply=multiplied)
        assert np.linalg.norm(other - sketch(value)) < 8 * unit * np.linalg.norm(value)
        assert np.linalg.norm(piece - sketch(value[10:, 5:], shape=(700, 90), start=(10, 5))) < 8 * unit * 300


def test_a_matrix_is_the_first_dimension_by_all_others_and_a_line_is_folded() -> None:
    assert matrix_of((64, 3, 5, 5)) == (64, 75)
    assert matrix_of((FOLD + 1,)) == (2, FOLD)
    assert matrix_of(()) == (1, FOLD)


@pytest.mark.parametrize("shape", [(64, 1), (60, 2), (700, 3), (20_000, 1)])
def test_a_narrow_tensor_is_not_squeezed_into_a_few_numbers(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(3)
    ratios = []
    for _ in range(200):
        value = draw.standard_normal(shape)
        ratios.append(np.linalg.norm(sketch(value)) / np.linalg.norm(value))
    assert 0.5 < min(ratios) <= max(ratios) < 2.0
