"""Tensors in pieces: every rank's piece is held against its place in the reference, and none may be missing."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from oracle_toy import NUM_STEPS, Array, Box, Clean, Held, Plan, off, spread, train

from harness.errors import TraceError
from harness.oracles.pieces import open_part
from harness.oracles.tables import layout
from harness.record import LADDER, Rung, RungFile, Tensor, Trace

Shape = tuple[int, ...]


def along(axis: int, *ends: int) -> Plan:
    """Cut tensors along a dimension, a rank between two ends; rank 0 holds the tensors without it."""

    def plan(_rung: Rung, _name: str, shape: Shape) -> Held:
        if len(shape) <= axis:
            return [(0, None)]
        whole = [slice(0, size) for size in shape]
        limits = [min(end, shape[axis]) for end in (0, *ends, shape[axis])]
        return [
            (rank, (*whole[:axis], slice(*limits[rank : rank + 2]), *whole[axis + 1 :]))
            for rank in range(len(ends) + 1)
        ]

    return plan


def stages(_rung: Rung, name: str, _shape: Shape) -> Held:
    """Spread whole tensors as a pipeline does: the second stage knows the loss."""
    return [(0 if "one." in name or name == "fixed" else 1, None)]


def chess_board(_rung: Rung, _name: str, shape: Shape) -> Held:
    """Give both ranks two boxes of every matrix."""
    if len(shape) != 2:
        return [(0, None)]
    halves = [(slice(0, size // 2), slice(size // 2, size)) for size in shape]
    return [((i + j) % 2, (top, left)) for i, top in enumerate(halves[0]) for j, left in enumerate(halves[1])]


def flat(_rung: Rung, _name: str, shape: Shape) -> Held:
    """Cut the flattened tensor into ranges that keep no dimension whole."""
    size = math.prod(shape)
    return [(0, slice(0, size * 13 // 30)), (1, slice(size * 13 // 30, size))]


def replicated(rung: Rung, name: str, shape: Shape) -> Held:
    """Give ranks 2 and 3 what ranks 0 and 1 hold."""
    return [(rank + copy, box) for rank, box in along(0, 3)(rung, name, shape) for copy in (0, 2)]


# How tensors lie on ranks, on how many, and the one that holds the last value of ``one.weight``.
PLANS = {
    "along the first dimension": (along(0, 3), 2, 1),
    "along the second dimension": (along(1, 2), 2, 1),
    "uneven, with empty pieces": (along(0, 4, 6), 3, 1),
    "whole tensors": (stages, 2, 0),
    "several boxes a rank": (chess_board, 2, 0),
    "ranges of the flattened tensor": (flat, 2, 1),
}
every_plan = pytest.mark.parametrize(("plan", "ranks", "last"), PLANS.values(), ids=PLANS)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    return Clean(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """The same training, summed in an order that no rerun has."""
    return train(tmp_path_factory.mktemp("run"), shards=3, permute=8)[0]


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """The same with one wrong value."""
    tamper = off("parameters", 3, 0, "one.weight")
    return train(tmp_path_factory.mktemp("wrong"), shards=3, permute=8, tamper=tamper)[0]


@every_plan
def test_a_run_in_pieces_is_equal_within_rounding(
    clean: Clean, run: Trace, tmp_path: Path, *, plan: Plan, ranks: int, last: int
) -> None:
    verdict = clean.verdict(spread(run, tmp_path, plan, ranks=ranks))
    assert verdict.equivalent, verdict
    assert [summary.rung for summary in verdict.rungs] == list(LADDER)
    assert verdict.num_tensors == 4
    assert verdict.not_shown == {}
    assert len(verdict.losses) == len(verdict.curve) == NUM_STEPS


@every_plan
def test_a_wrong_value_is_named_with_the_rank_that_holds_its_piece(
    clean: Clean, wrong: Trace, tmp_path: Path, *, plan: Plan, ranks: int, last: int
) -> None:
    verdict = clean.verdict(spread(wrong, tmp_path, plan, ranks=ranks))
    found = verdict.divergence
    assert found is not None
    assert (found.rung, found.step, found.rank, found.tensor) == ("parameters", 3, last, "one.weight")
    assert found.observed == pytest.approx(1e-3, rel=1e-6)
    assert f"on rank {last} only" in verdict.reason


@pytest.mark.parametrize("guilty", range(4))
def test_of_two_ranks_with_the_same_piece_the_wrong_one_is_named(
    clean: Clean, run: Trace, tmp_path: Path, guilty: int
) -> None:
    assert clean.verdict(spread(run, tmp_path / "right", replicated, ranks=4)).equivalent
    tamper = off("gradients before clipping", 2, guilty, "two.bias" if guilty % 2 == 0 else "one.weight")
    found = clean.verdict(spread(run, tmp_path, replicated, ranks=4, tamper=tamper)).divergence
    assert found is not None
    assert (found.rung, found.step, found.rank) == ("gradients before clipping", 2, guilty)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_piece_that_is_not_finite_is_different(clean: Clean, run: Trace, tmp_path: Path, value: float) -> None:
    tamper = off("parameters", 3, 1, "one.weight", value)
    verdict = clean.verdict(spread(run, tmp_path, along(1, 2), tamper=tamper))
    kind = "NaN" if math.isnan(value) else "infinity"
    assert f"at step 3, on rank 1 only, in parameters of one.weight: {kind} where" in verdict.reason


def test_only_what_a_rank_holds_counts_as_compared(clean: Clean, run: Trace, tmp_path: Path) -> None:
    verdict = clean.verdict(spread(run, tmp_path, stages))
    compared = {summary.rung: summary.num_compared for summary in verdict.rungs}
    assert compared["loss"] == NUM_STEPS
    assert compared["parameters"] == (NUM_STEPS + 1) * 6
    assert {summary.rank for summary in verdict.rungs if summary.rung == "loss"} == {1}


@pytest.mark.parametrize("rung", ["loss", "buffers", "predictions"])
def test_what_the_last_stage_alone_holds_is_judged_there(clean: Clean, run: Trace, tmp_path: Path, rung: Rung) -> None:
    name = {"loss": "loss", "buffers": "mean", "predictions": "logits"}[rung]
    verdict = clean.verdict(spread(run, tmp_path, stages, tamper=off(rung, NUM_STEPS - 1, 1, name)))
    found = verdict.divergence
    assert found is not None
    assert (found.rung, found.step, found.rank, found.tensor) == (rung, NUM_STEPS - 1, 1, name)


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ((0, (slice(0, 4), slice(0, 5))), r"elements from \(4, 0\), 10 of 30"),
        ((0, (slice(0, 6), slice(0, 2))), r"elements from \(0, 2\), 18 of 30"),
        ((1, slice(13, 30)), r"elements from \(0, 0\), 13 of 30"),
        (None, r"elements from \(0, 0\), 30 of 30"),
    ],
    ids=["rows", "columns", "range", "everything"],
)
def test_a_piece_that_no_rank_holds_is_refused(
    clean: Clean, run: Trace, tmp_path: Path, lost: tuple[int, Box] | None, told: str
) -> None:
    def plan(rung: Rung, name: str, shape: Shape) -> Held:
        if (rung, name) == ("parameters", "one.weight"):
            return [lost] if lost else []
        return along(0, 3)(rung, name, shape)

    with pytest.raises(TraceError, match=f"'parameters': .* all of one.weight but no rank holds {told}; tap every"):
        clean.verdict(spread(run, tmp_path, plan))


@pytest.mark.parametrize("rung", ["loss", "buffers"])
def test_a_rung_that_every_rank_leaves_to_the_others_is_refused(
    clean: Clean, run: Trace, tmp_path: Path, rung: Rung
) -> None:
    traces = spread(run, tmp_path, lambda at, *_: [] if at == rung else [(0, None), (1, None)])
    with pytest.raises(TraceError, match=f"rung '{rung}': .* no rank holds elements from"):
        clean.verdict(traces)
    silent = msgspec.structs.replace(
        traces[0], rungs={at: file for at, file in traces[0].rungs.items() if at != rung}, not_shown={rung: "no hook"}
    )
    assert clean.verdict([silent, traces[1]]).not_shown == {rung: "no hook"}


def test_a_rank_that_leaves_everything_to_the_others_is_refused(clean: Clean, run: Trace, tmp_path: Path) -> None:
    idle = spread(run, tmp_path, lambda *_: [(0, None)])
    with pytest.raises(TraceError, match="rank to show something of its training but rank 1 shows nothing in any rung"):
        clean.verdict(idle)
    silent = msgspec.structs.replace(idle[1], rungs={}, not_shown=dict.fromkeys(LADDER, "rank 0 tells"))
    with pytest.raises(TraceError, match="rank 1 shows nothing in any rung"):
        clean.verdict([idle[0], silent])


def test_a_rank_that_leaves_nothing_to_others_must_show_everything(clean: Clean, run: Trace, tmp_path: Path) -> None:
    first, second = spread(run, tmp_path, stages)
    alone = msgspec.structs.replace(second.rungs["parameters"], part=False)
    with pytest.raises(TraceError, match=r"'parameters' of rank 1: .* lacks one.weight, .* or say with holds_part"):
        clean.verdict([first, msgspec.structs.replace(second, rungs=second.rungs | {"parameters": alone})])
    rest = {rung: file for rung, file in first.rungs.items() if rung != "loss"}
    with pytest.raises(TraceError, match=r"'loss': neither shown nor declared by rank 0; .* or say with holds_part"):
        clean.verdict([msgspec.structs.replace(first, rungs=rest), second])


def test_a_reference_in_parts_is_refused(clean: Clean, run: Trace, tmp_path: Path) -> None:
    (part,) = spread(run, tmp_path, lambda *_: [(0, None)], ranks=1)
    with pytest.raises(TraceError, match="of the reference: expected whole tensors but it says that other ranks hold"):
        clean.verdict([run], reference=part)


@pytest.mark.parametrize(
    ("tensor", "told"),
    [
        (Tensor(name="three", shape=(6, 5)), "pieces of the reference's tensors but it has three besides"),
        (Tensor(name="one", shape=(5, 6)), r"expected shape \(6, 5\) of one .* but got \(5, 6\)"),
        (Tensor(name="one", shape=(30,)), r"expected shape \(6, 5\) of one .* but got \(30,\)"),
        (Tensor(name="one", shape=(2, 6), whole=(5, 6), start=(0, 0)), r"expected shape .* but got \(5, 6\)"),
        (Tensor(name="one", shape=(2,), whole=(29,), start=(0,)), r"expected shape .* but got \(29,\)"),
    ],
)
def test_pieces_of_other_tensors_are_refused(tensor: Tensor, told: str) -> None:
    like = RungFile(file="-", steps=(0,), tensors=(Tensor(name="one", shape=(6, 5)),))
    with pytest.raises(TraceError, match=f"'loss' of rank 1: .*{told}"):
        open_part("loss", RungFile(file="-", steps=(0,), tensors=(tensor,), part=True), like=like, who="rank 1")


SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def boxes(draw: st.DrawFn, shape: Shape) -> tuple[slice, ...]:
    """Draw a box in a tensor."""
    ends = [sorted(draw(st.tuples(st.integers(0, size), st.integers(0, size)))) for size in shape]
    return tuple(slice(first, last) for first, last in ends)


@SLOW
@given(data=st.data(), shape=st.lists(st.integers(1, 4), max_size=4).map(tuple), seed=st.integers(0, 99))
def test_the_distance_of_any_box_is_that_of_its_values(
    tmp_path: Path, data: st.DataObject, shape: Shape, seed: int
) -> None:
    box = data.draw(boxes(shape))
    random = np.random.default_rng(seed)
    before, whole, after = random.normal(size=(3, 2)), random.normal(size=(3, *shape)), random.normal(size=(3, 1))
    own = random.normal(size=(3, *whole[:, *box].shape[1:]))
    assume(own.size)
    np.save(tmp_path / "own.npy", own.reshape(3, -1))
    like = RungFile(
        file="-",
        steps=(0, 1, 2),
        tensors=(Tensor(name="a", shape=(2,)), Tensor(name="b", shape=shape), Tensor(name="c", shape=())),
    )
    piece = Tensor(name="b", shape=own.shape[1:], whole=shape, start=tuple(cut.start for cut in box))
    file = RungFile(file=str(tmp_path / "own.npy"), steps=like.steps, tensors=(piece,), part=True)
    part = open_part("loss", file, like=like, who="rank 0")
    rows = np.concatenate([before, whole.reshape(3, -1), after], axis=1)
    expected = np.sqrt(np.square(whole[:, *box] - own).reshape(3, -1).sum(axis=1))
    found = part.apart(0, 3, rows, layout(like))
    np.testing.assert_allclose(found, np.stack([0 * expected, expected, 0 * expected], axis=1), rtol=1e-14)
    assert part.held(layout(like)).tolist() == [False, True, False]


@st.composite
def cuttings(draw: st.DrawFn, ranks: int) -> Plan:
    """Draw how often each tensor is cut in two at a random place, and who holds the boxes, some of them twice."""
    seed = draw(st.integers(0, 2**32))
    depth = draw(st.integers(0, 3))

    def plan(rung: Rung, name: str, shape: Shape) -> Held:
        random = np.random.default_rng([seed, *rung.encode(), *name.encode()])
        whole: list[tuple[slice, ...]] = [tuple(slice(0, size) for size in shape)]
        for _ in range(depth if shape else 0):
            box, axis = whole.pop(0), int(random.integers(len(shape)))
            at = int(random.integers(box[axis].start, box[axis].stop + 1))
            for low, high in ((box[axis].start, at), (at, box[axis].stop)):
                whole.append((*box[:axis], slice(low, high), *box[axis + 1 :]))
        random.shuffle(whole)
        held = ((random.choice(ranks, size=random.integers(1, ranks + 1), replace=False), box) for box in whole)
        return [(int(rank), box) for holders, box in held for rank in holders]

    return plan


@SLOW
@given(data=st.data(), ranks=st.integers(1, 4), is_wrong=st.booleans())
def test_however_a_run_is_cut_the_verdict_is_that_of_the_whole(
    clean: Clean, run: Trace, wrong: Trace, tmp_path: Path, *, data: st.DataObject, ranks: int, is_wrong: bool
) -> None:
    trace = wrong if is_wrong else run
    expected = clean.verdict([trace])
    found = clean.verdict(spread(trace, tmp_path, data.draw(cuttings(ranks)), ranks=ranks))
    assert (found.conclusion, found.num_tensors) == (expected.conclusion, expected.num_tensors)
    assert expected.margin is not None
    assert found.margin is not None
    assert expected.margin / math.sqrt(ranks) * (1 - 1e-12) <= found.margin <= expected.margin * (1 + 1e-12)
    if expected.divergence is not None:
        assert found.divergence is not None
        assert (found.divergence.step, found.divergence.tensor) == (3, "one.weight")


def test_what_lies_in_one_range_is_compared_without_a_copy(tmp_path: Path) -> None:
    like = RungFile(file="-", steps=(0,), tensors=tuple(Tensor(name=name, shape=(4, 6)) for name in "abc"))
    rows: Array = np.zeros((1, 72))

    def views(*tensors: Tensor) -> list[bool]:
        file = RungFile(file=str(tmp_path / "own.npy"), steps=(0,), tensors=tensors, part=True)
        np.save(file.file, np.zeros((1, layout(file).width)))
        cuts = open_part("loss", file, like=like, who="rank 0").cuts
        return [np.shares_memory(cut.of(rows), rows) for cut in cuts]

    assert views(*like.tensors[1:]) == [True], "a stage's layers are one range"
    assert views(Tensor(name="a", shape=(2, 6), whole=(4, 6), start=(2, 0)), like.tensors[1]) == [True]
    assert views(Tensor(name="b", shape=(1, 3), whole=(4, 6), start=(2, 2)), like.tensors[0]) == [True, True]
    assert views(Tensor(name="b", shape=(4, 3), whole=(4, 6), start=(0, 3))) == [False]
