"""Recording: what is tapped is what is read back, and a tensor that changes its shape is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.errors import TraceError
from harness.record import Rung
from harness.recorder import Piece, Recorder, read
from harness.spec import Job, Workload

RUNG: Rung = "parameters"


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    workload = Workload(name="tiny", model="none", dataset="none")
    return Recorder(Job(function="a:b", strategy="a", workload=workload, directory=str(tmp_path)))


def test_a_rung_is_a_table_with_a_row_a_step_and_its_tensors_side_by_side(recorder: Recorder) -> None:
    draw = np.random.default_rng(0)
    values = [(draw.standard_normal((3, 4)), draw.standard_normal(5)) for _ in range(3)]
    for step, (weight, bias) in enumerate(values):
        recorder.tap(RUNG, step, "weight", weight.T)
        recorder.tap(RUNG, step, "bias", bias)
    found = recorder.traces()[0].rungs[RUNG]
    assert [(tensor.name, tensor.shape) for tensor in found.tensors] == [("weight", (4, 3)), ("bias", (5,))]
    expected = np.stack([np.concatenate([weight.T.ravel(), bias]) for weight, bias in values])
    np.testing.assert_array_equal(read(found), expected)


def test_numbers_of_several_kinds_are_kept_in_the_widest(recorder: Recorder) -> None:
    recorder.tap(RUNG, 0, "narrow", np.float32(0.5))
    recorder.tap(RUNG, 0, "wide", np.float64(0.1))
    recorder.tap(RUNG, 0, "empty", np.empty((0, 3)))
    table = read(recorder.traces()[0].rungs[RUNG])
    assert table.dtype == np.float64
    assert table.tolist() == [[0.5, 0.1]]


def test_values_that_change_after_the_tap_do_not_change_the_trace(recorder: Recorder) -> None:
    value = np.ones(3)
    recorder.tap(RUNG, 0, "weight", value)
    value[:] = 2
    assert read(recorder.traces()[0].rungs[RUNG]).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("second", [{"weight": np.ones(4)}, {"other": np.ones(3)}, {}])
def test_a_step_with_other_tensors_or_shapes_is_told(recorder: Recorder, second: dict[str, np.ndarray]) -> None:
    recorder.tap(RUNG, 0, "weight", np.ones(3))
    recorder.tap(RUNG, 0, "bias", np.ones(1))
    recorder.tap(RUNG, 1, "bias", np.ones(1))
    for name, value in second.items():
        recorder.tap(RUNG, 1, name, value)
    with pytest.raises(TraceError, match=r"rung .parameters.: expected the tensors .* at step 1 but got"):
        recorder.traces()


def test_pieces_are_kept_with_their_place_several_of_a_tensor_and_empty_ones(recorder: Recorder) -> None:
    whole = np.arange(12.0).reshape(4, 3)
    for step in range(2):
        recorder.tap(RUNG, step, "weight", whole[3:], piece=Piece(whole=(4, 3), start=(3, 0)))
        recorder.tap(RUNG, step, "weight", whole[:1, 1:], piece=Piece(whole=(4, 3), start=(0, 1)))
        recorder.tap(RUNG, step, "bias", np.empty(0), piece=Piece(whole=(2,), start=(2,)))
        recorder.tap("loss", step, "loss", 1.0)
    found = recorder.traces()[0].rungs
    assert [(tensor.name, tensor.shape, tensor.whole, tensor.start) for tensor in found[RUNG].tensors] == [
        ("weight", (1, 3), (4, 3), (3, 0)),
        ("weight", (1, 2), (4, 3), (0, 1)),
        ("bias", (0,), (2,), (2,)),
    ]
    assert read(found[RUNG]).tolist() == [[9, 10, 11, 1, 2]] * 2
    assert found[RUNG].part, "a piece says that others hold the rest"
    assert not found["loss"].part


def test_a_rung_that_others_hold_all_of_is_an_empty_part(recorder: Recorder) -> None:
    recorder.holds_part("loss", RUNG)
    recorder.tap(RUNG, 0, "weight", np.ones(3))
    found = recorder.traces()[0].rungs
    assert found[RUNG].part
    assert (found["loss"].part, found["loss"].steps, found["loss"].tensors) == (True, (), ())
    assert read(found["loss"]).shape == (0, 0)


@pytest.mark.parametrize(("whole", "start"), [((4, 3), (2, 0)), ((4, 3), (-1, 0)), ((4, 2), (0, 0)), ((12,), (0,))])
def test_a_piece_that_is_not_inside_its_whole_is_told(
    recorder: Recorder, whole: tuple[int, ...], start: tuple[int, ...]
) -> None:
    recorder.tap(RUNG, 0, "weight", np.ones((3, 3)), piece=Piece(whole=whole, start=start))
    with pytest.raises(TraceError, match=r"piece of weight: expected a box inside the whole, .* got shape \(3, 3\)"):
        recorder.traces()


def test_a_flat_range_may_say_its_tensor_s_shape(recorder: Recorder) -> None:
    recorder.tap(RUNG, 0, "weight", np.ones(3), piece=Piece(whole=(4, 3), start=(5,)))
    (tensor,) = recorder.traces()[0].rungs[RUNG].tensors
    assert (tensor.whole, tensor.start, tensor.shape) == ((12,), (5,), (3,))


def test_a_step_with_another_piece_is_told(recorder: Recorder) -> None:
    for step in range(2):
        recorder.tap(RUNG, step, "weight", np.ones(3), piece=Piece(whole=(9,), start=(step,)))
    with pytest.raises(TraceError, match=r"weight \(3,\) from \(0,\) of \(9,\) at step 1 but got .* from \(1,\)"):
        recorder.traces()
