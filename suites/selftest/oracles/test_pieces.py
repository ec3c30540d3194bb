"""Tensors in pieces: every rank's piece is held against its place in the reference, and none may be missing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle_toy import FROZEN, NUM_STEPS, SHAPES, Array, Box, Clean, Plan, Tamper, off, spread, train, untouched

from harness.errors import TraceError
from harness.oracles.pieces import open_part
from harness.oracles.tables import layout
from harness.record import LADDER, Rung, RungFile, Trace, Verdict
from harness.recorder import Piece, Recorder, read
from harness.spec import Job, Workload

Held = list[tuple[int, Box | None]]
PLACE: tuple[Rung, int, str] = ("parameters", 3, "one.weight")


def along(axis: int, at: tuple[int, ...]) -> Plan:
    """Cut every tensor that has the dimension at ``at``, a rank between two cuts; rank 0 holds the others."""

    def plan(rung: Rung, name: str, shape: tuple[int, ...]) -> Held:
        if len(shape) <= axis:
            return [(0, None)]
        ends = [min(end, shape[axis]) for end in (0, *at, shape[axis])]
        box = (slice(None),) * axis
        return [(rank, (*box, slice(*ends[rank : rank + 2]))) for rank in range(len(at) + 1)]

    return plan


def rows(rung: Rung, name: str, shape: tuple[int, ...]) -> Held:
    return list(along(0, (3,))(rung, name, shape))


def whole_tensors(rung: Rung, name: str, shape: tuple[int, ...]) -> Held:
    """Spread tensors as a pipeline of two stages does: the second knows the loss."""
    return [(0 if "one." in name or name == "fixed" else 1, None)]


def replicated(rung: Rung, name: str, shape: tuple[int, ...]) -> Held:
    """Give ranks 2 and 3 what ranks 0 and 1 hold."""
    return [(rank + copy, box) for rank, box in rows(rung, name, shape) for copy in (0, 2)]


def quarters(rung: Rung, name: str, shape: tuple[int, ...]) -> Held:
    """Give both ranks two boxes of every matrix, as on a chess board."""
    if len(shape) < 2:
        return rows(rung, name, shape)
    halves = [(slice(0, size // 2), slice(size // 2, size)) for size in shape]
    return [((i + j) % 2, (first, second)) for i, first in enumerate(halves[0]) for j, second in enumerate(halves[1])]


# How tensors lie on ranks, the number of ranks, and the rank that holds the last value of ``one.weight``.
PLANS: dict[str, tuple[Plan, int, int]] = {
    "along the first dimension": (rows, 2, 1),
    "along the second dimension": (along(1, (2,)), 2, 1),
    "uneven, one of them empty": (along(0, (4, 6)), 3, 1),
    "whole tensors": (whole_tensors, 2, 0),
    "several boxes a rank": (quarters, 2, 0),
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    return Clean(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """The same training, summed in an order that no rerun has."""
    return train(tmp_path_factory.mktemp("other"), shards=3, permute=8)[0]


@pytest.mark.parametrize(("plan", "ranks", "_last"), PLANS.values(), ids=PLANS)
def test_a_run_in_pieces_is_equal_within_rounding(
    clean: Clean, other: Trace, tmp_path: Path, plan: Plan, ranks: int, _last: int
) -> None:
    verdict = clean.verdict(spread(other, tmp_path, plan, ranks=ranks))
    assert verdict.equivalent, verdict
    assert [summary.rung for summary in verdict.rungs] == list(LADDER)
    assert verdict.num_tensors == clean.verdict([other]).num_tensors == 4
    assert verdict.not_shown == {}
    assert len(verdict.losses) == len(verdict.curve) == NUM_STEPS


@pytest.mark.parametrize(("plan", "ranks", "last"), PLANS.values(), ids=PLANS)
def test_a_wrong_value_in_a_piece_is_named_with_the_rank_that_holds_it(
    clean: Clean, other: Trace, tmp_path: Path, plan: Plan, ranks: int, last: int
) -> None:
    (wrong,) = spread(other, tmp_path / "wrong", lambda *_: [(0, None)], ranks=1, tamper=off(PLACE[0], 3, 0, PLACE[2]))
    whole = [msgspec.structs.replace(file, part=False) for file in wrong.rungs.values()]
    trace = msgspec.structs.replace(wrong, rungs=dict(zip(wrong.rungs, whole, strict=True)))
    verdict = clean.verdict(spread(trace, tmp_path, plan, ranks=ranks))
    found = verdict.divergence
    assert found is not None
    assert (found.rung, found.step, found.rank, found.tensor) == (PLACE[0], PLACE[1], last, PLACE[2])
    assert found.observed == pytest.approx(1e-3, rel=1e-6)
    assert f"on rank {last} only" in verdict.reason


def test_pieces_of_a_flattened_tensor_are_compared(clean: Clean, other: Trace, tmp_path: Path) -> None:
    def flat(tamper: Tamper) -> list[Trace]:
        """Cut ``one.weight``, 6 x 5, after its 13th value, as a flat buffer is."""
        traces = spread(other, tmp_path, lambda _rung, name, _shape: [] if name == "one.weight" else [(0, None)])
        rungs: list[dict[Rung, RungFile]] = [{}, {}]
        for rank, (low, high) in enumerate([(0, 13), (13, 30)]):
            recorder = Recorder(a_job(tmp_path / str(rank), rank))
            for step, row in zip(other.rungs[PLACE[0]].steps, read(other.rungs[PLACE[0]]), strict=True):
                value = tamper(PLACE[0], step, rank, "one.weight", row[low:high].copy())
                recorder.tap(PLACE[0], step, "one.weight", value, piece=Piece(whole=(30,), start=(low,)))
                for name in list(SHAPES)[1:] if rank == 0 else ():
                    at = [tensor.name for tensor in other.rungs[PLACE[0]].tensors].index(name)
                    begin = sum(math.prod(tensor.shape) for tensor in other.rungs[PLACE[0]].tensors[:at])
                    whole = row[begin : begin + math.prod(SHAPES[name])].reshape(SHAPES[name])
                    recorder.tap(PLACE[0], step, name, whole, trainable=name not in FROZEN)
            rungs[rank] = recorder.traces()[0].rungs
        return [
            msgspec.structs.replace(trace, rungs=trace.rungs | found)
            for trace, found in zip(traces, rungs, strict=True)
        ]

    def only_parameters(traces: list[Trace]) -> list[Trace]:
        kept = ("data order", "parameters")
        return [
            msgspec.structs.replace(
                trace,
                rungs={rung: file for rung, file in trace.rungs.items() if rung in kept},
                not_shown=dict.fromkeys((rung for rung in LADDER if rung not in kept), "not looked at"),
            )
            for trace in traces
        ]

    assert clean.verdict(only_parameters(flat(untouched))).equivalent
    found = clean.verdict(only_parameters(flat(off(PLACE[0], 3, 1, "one.weight")))).divergence
    assert found is not None
    assert (found.step, found.rank, found.tensor) == (3, 1, "one.weight")
