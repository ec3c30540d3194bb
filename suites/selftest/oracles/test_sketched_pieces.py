"""Sketched tensors in the oracle: sums over ranks are held against the whole, and so is every replica."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from oracle_toy import NUM_STEPS, Box, Clean, Held, Plan, off, sketching, spread, train

from harness.errors import TraceError
from harness.record import LADDER, SKETCH_SIZE, Rung, Trace
from harness.recorder import Piece, Recorder, read
from harness.spec import Job

Shape = tuple[int, ...]
# "one.weight" (6, 5) and "two.weight" (3, 6) are sketched, vectors are not.
ABOVE = 10


def halves(_rung: Rung, _name: str, shape: Shape) -> Held:
    """Give each rank half of the rows; rank 0 holds what has none."""
    if not shape:
        return [(0, None)]
    rest = (slice(None),) * (len(shape) - 1)
    return [(0, (slice(0, shape[0] // 2), *rest)), (1, (slice(shape[0] // 2, shape[0]), *rest))]


def columns(_rung: Rung, _name: str, shape: Shape) -> Held:
    """Give each rank half of the columns; rank 0 holds the vectors whole."""
    if len(shape) < 2:
        return [(0, None)]
    return [(0, (slice(None), slice(0, 2))), (1, (slice(None), slice(2, shape[1])))]


def flat(_rung: Rung, _name: str, shape: Shape) -> Held:
    """Cut the flattened tensor amid a row."""
    size = int(np.prod(shape))
    return [(0, slice(0, size * 13 // 30)), (1, slice(size * 13 // 30, size))]


def stages(_rung: Rung, name: str, _shape: Shape) -> Held:
    """Spread whole tensors as a pipeline does."""
    return [(0 if "one." in name or name == "fixed" else 1, None)]


def replicated(rung: Rung, name: str, shape: Shape) -> Held:
    """Give ranks 2 and 3 what ranks 0 and 1 hold."""
    return [(rank + copy, box) for rank, box in halves(rung, name, shape) for copy in (0, 2)]


def two_boxes_a_rank(_rung: Rung, _name: str, shape: Shape) -> Held:
    if len(shape) != 2:
        return [(0, None)]
    parts = [(slice(0, size // 2), slice(size // 2, size)) for size in shape]
    return [((i + j) % 2, (top, left)) for i, top in enumerate(parts[0]) for j, left in enumerate(parts[1])]


PLANS: dict[str, tuple[Plan, int]] = {
    "rows": (halves, 2),
    "columns": (columns, 2),
    "flat ranges": (flat, 2),
    "whole tensors": (stages, 2),
    "replicas": (replicated, 4),
    "several boxes a rank": (two_boxes_a_rank, 2),
}
every_plan = pytest.mark.parametrize(("plan", "ranks"), PLANS.values(), ids=PLANS)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    return Clean(tmp_path_factory.mktemp("clean"), sketch_above=ABOVE)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """The same training with all values, summed in an order that no rerun has."""
    return train(tmp_path_factory.mktemp("run"), shards=3, permute=8)[0]


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """The same with one wrong value."""
    tamper = off("parameters", 3, 0, "one.weight")
    return train(tmp_path_factory.mktemp("wrong"), shards=3, permute=8, tamper=tamper)[0]


def test_only_large_tensors_of_the_model_are_sketched(clean: Clean) -> None:
    sketched = {
        (rung, tensor.name)
        for rung, file in clean.reference.rungs.items()
        for tensor in file.tensors
        if tensor.sketched
    }
    assert {name.partition(":")[2] or name for _, name in sketched} == {"one.weight", "two.weight"}
    assert {rung for rung, _ in sketched} == {
        "gradients before clipping",
        "gradients after clipping",
        "optimizer state",
        "parameters",
    }
    # Vectors of 6, 3, 1 and 5 values are there whole.
    assert read(clean.reference.rungs["parameters"]).shape == (NUM_STEPS + 1, 2 * SKETCH_SIZE + 6 + 3 + 1 + 5)


def test_ranks_with_whole_tensors_are_judged_by_their_sketches(clean: Clean) -> None:
    assert clean.judge().equivalent
    found = clean.judge(tamper=off("parameters", 3, 1, "one.weight")).divergence
    assert found is not None
    assert (found.rung, found.step, found.rank, found.tensor) == ("parameters", 3, 1, "one.weight")
    # Two weights lie between the size of the wrong value and that of its sketch.
    assert 0.2e-3 < found.observed < 2.1e-3


@every_plan
def test_a_sketched_run_in_pieces_is_equal_within_rounding(
    clean: Clean, run: Trace, tmp_path: Path, *, plan: Plan, ranks: int
) -> None:
    verdict = clean.verdict(spread(run, tmp_path, plan, ranks=ranks, sketch_above=ABOVE))
    assert verdict.equivalent, verdict
    assert [summary.rung for summary in verdict.rungs] == [rung for rung in LADDER if rung in clean.reference.rungs]
    assert verdict.num_tensors == 4


@every_plan
def test_a_wrong_value_shows_in_the_sum_and_all_that_hold_a_piece_are_named(
    clean: Clean, wrong: Trace, tmp_path: Path, *, plan: Plan, ranks: int
) -> None:
    verdict = clean.verdict(spread(wrong, tmp_path, plan, ranks=ranks, sketch_above=ABOVE))
    found = verdict.divergence
    assert found is not None
    assert (found.rung, found.step, found.tensor) == ("parameters", 3, "one.weight")
    assert found.rank == 0
    assert (" on rank 0 only" in verdict.reason) == (plan is stages)


@pytest.mark.parametrize("guilty", range(4))
def test_of_replicas_each_is_held_against_the_whole(clean: Clean, run: Trace, tmp_path: Path, guilty: int) -> None:
    tamper = off("parameters", 3, guilty, "two.weight")
    verdict = clean.verdict(spread(run, tmp_path, replicated, ranks=4, tamper=tamper, sketch_above=ABOVE))
    assert verdict.divergence is not None
    # Of the two sums, 0 + 1 and 2 + 3, that with the wrong piece is named.
    assert verdict.divergence.rank == guilty // 2 * 2


def test_a_replica_of_one_piece_only_is_held_against_the_whole_too(clean: Clean, run: Trace, tmp_path: Path) -> None:
    def plan(rung: Rung, name: str, shape: Shape) -> Held:
        held = list(halves(rung, name, shape))
        return [*held, (2, held[-1][1])]

    assert clean.verdict(spread(run, tmp_path / "a", plan, ranks=3, sketch_above=ABOVE)).equivalent
    tamper = off("parameters", 2, 2, "one.weight")
    found = clean.verdict(spread(run, tmp_path / "b", plan, ranks=3, tamper=tamper, sketch_above=ABOVE)).divergence
    assert found is not None
    assert (found.step, found.tensor) == (2, "one.weight")


def test_a_piece_that_no_rank_holds_is_refused(clean: Clean, run: Trace, tmp_path: Path) -> None:
    def plan(rung: Rung, name: str, shape: Shape) -> Held:
        return [(rank, box) for rank, box in halves(rung, name, shape) if rank == 0 or name != "one.weight"]

    with pytest.raises(TraceError, match=r"no rank holds elements from \(3, 0\), 15 of 30"):
        clean.verdict(spread(run, tmp_path, plan, sketch_above=ABOVE))


def test_pieces_that_overlap_are_refused(clean: Clean, run: Trace, tmp_path: Path) -> None:
    def plan(_rung: Rung, _name: str, shape: Shape) -> Held:
        whole: Box = (slice(None),) * len(shape)
        cut = (slice(0, max(1, shape[0] - 1)), *whole[1:]) if shape else None  # type: ignore[index]
        last = (slice(max(0, shape[0] - 2), shape[0]), *whole[1:]) if shape else None  # type: ignore[index]
        return [(0, cut), (1, last)]

    with pytest.raises(TraceError, match="make up its 30 values but they have 35; tap pieces that do not overlap"):
        clean.verdict(spread(run, tmp_path, plan, sketch_above=ABOVE))


@pytest.mark.parametrize(
    ("ours", "told"), [(None, "got all values"), (20, "got all values"), (0, "expected all values")]
)
def test_ranks_that_sketch_other_tensors_than_the_reference_are_refused(
    clean: Clean, run: Trace, tmp_path: Path, ours: int | None, told: str
) -> None:
    with pytest.raises(TraceError, match=told):
        clean.verdict(spread(run, tmp_path, halves, sketch_above=ours))
    with pytest.raises(TraceError, match=told):
        clean.judge(sketch_above=ours)


def test_a_flat_range_that_does_not_say_its_tensor_s_shape_is_refused(clean: Clean, run: Trace, tmp_path: Path) -> None:
    job = Job(function="toy:train", strategy="toy", workload=sketching(ABOVE), directory=str(tmp_path))
    recorder = Recorder(job)
    for step in range(-1, NUM_STEPS):
        recorder.tap("parameters", step, "one.weight", np.zeros(30), piece=Piece(whole=(30,), start=(0,)))
    (unsaid,) = recorder.traces()
    first, second = spread(run, tmp_path / "pieces", flat, sketch_above=ABOVE)
    second = msgspec.structs.replace(second, rungs=second.rungs | unsaid.rungs)
    with pytest.raises(TraceError, match=r"shape \(6, 5\) of one.weight as in the reference but got .*\(1, 1024\)"):
        clean.verdict([first, second])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sketched_piece_that_is_not_finite_is_different(
    clean: Clean, run: Trace, tmp_path: Path, value: float
) -> None:
    tamper = off("parameters", 3, 1, "one.weight", by=value)
    verdict = clean.verdict(spread(run, tmp_path, halves, tamper=tamper, sketch_above=ABOVE))
    assert verdict.conclusion == "different"
    assert verdict.divergence is not None
    assert verdict.divergence.tensor == "one.weight"
