"""The heat map shows every tensor's closest call, and agrees with the closest calls of the rungs."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from oracle_toy import NUM_STEPS, Box, Clean, Held, off, spread, train

from harness import store
from harness.oracles.heat import MOST_STEPS, MOST_TENSORS, RUNGS, heat
from harness.oracles.rungs import Comparison
from harness.record import LADDER, Heat, Rung, Tensor, Verdict

ORDER = ("one.weight", "one.bias", "two.weight", "two.bias", "shift", "fixed", "step", "mean", "hidden", "logits")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    return Clean(tmp_path_factory.mktemp("clean"))


def heat_of(verdict: Verdict) -> Heat:
    assert verdict.heat is not None
    return verdict.heat


def call(found: Heat, rung: Rung, name: str) -> float | None:
    return found.rungs[rung][found.tensors.index(name)]


def comparison(rung: Rung, ratios: list[list[float]], *, first: int = 0) -> Comparison:
    """One rank's comparison with these ratios, a row a step."""
    table = np.array(ratios, dtype=np.float64)
    ones = np.ones(table.shape)
    return Comparison(
        rung=rung,
        steps=tuple(range(first, first + len(ratios))),
        ranks=(0,),
        tensors=tuple(Tensor(name=f"layer{i}.weight", shape=(2,)) for i in range(table.shape[1])),
        deviation=table[None],
        size=ones,
        noise=ones,
        floor=ones,
        moved=ones[0],
        held=np.ones((1, table.shape[1]), dtype=np.bool_),
    )


def assert_agrees(verdict: Verdict) -> None:
    found = heat_of(verdict)
    for summary in verdict.rungs:
        if summary.rung in RUNGS:
            hottest = max(ratio for ratio in found.rungs[summary.rung] if ratio is not None)
            assert hottest == pytest.approx(summary.ratio, rel=5e-3)
            closest = summary.tensor.rpartition(":")[2]
            assert call(found, summary.rung, closest) == hottest


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("adam", [False, True])
def test_its_hottest_tensor_of_a_rung_is_the_rungs_closest_call(tmp_path: Path, adam: bool, dtype: str) -> None:
    verdict = Clean(tmp_path, adam=adam, dtype=dtype).judge()
    assert verdict.equivalent, verdict
    assert_agrees(verdict)


def test_tensors_come_in_the_order_of_the_model_and_only_where_a_rung_has_them(clean: Clean) -> None:
    found = heat_of(clean.judge())
    assert found.tensors == ORDER
    assert tuple(found.rungs) == tuple(rung for rung in LADDER if rung in RUNGS)
    assert call(found, "gradients before clipping", "fixed") is None, "a frozen tensor has no gradient"
    assert call(found, "parameters", "fixed") == 0
    assert call(found, "parameters", "shift") is not None, "a tensor without signal is shown, too"
    assert found.num_left_out == 0


def test_an_optimizers_tensors_count_as_their_parameters(tmp_path: Path) -> None:
    wrong = Clean(tmp_path, adam=True).judge(tamper=off("optimizer state", 3, 1, "exp_avg_sq:two.bias"))
    found = heat_of(wrong)
    assert "exp_avg_sq:two.bias" not in found.tensors
    assert found.by_step_rung == "optimizer state"
    ratio = call(found, "optimizer state", "two.bias")
    assert ratio is not None
    assert ratio > wrong.factor


def test_a_wrong_tensor_glows_alone_at_its_step(clean: Clean) -> None:
    verdict = clean.judge(tamper=off("gradients before clipping", 2, 1, "two.weight"))
    found = heat_of(verdict)
    assert found.by_step_rung == "gradients before clipping"
    assert found.steps == tuple(range(NUM_STEPS))
    hot = {
        (name, step)
        for name, row in zip(found.tensors, found.by_step, strict=True)
        for step, ratio in zip(found.steps, row, strict=True)
        if ratio is not None and ratio > verdict.factor
    }
    assert hot == {("two.weight", 2)}
    assert_agrees(verdict)


def test_of_several_rungs_that_exceed_the_one_that_does_so_first_goes_step_by_step(clean: Clean) -> None:
    assert heat_of(clean.judge(grad_scale=2.0)).by_step_rung == "gradients before clipping"


def test_the_rung_with_the_closest_call_goes_step_by_step_where_nothing_exceeds() -> None:
    found = heat([comparison("gradients before clipping", [[1.0]]), comparison("parameters", [[0.5], [3.0]])], 100.0)
    assert found is not None
    assert (found.by_step_rung, found.by_step) == ("parameters", ((0.5, 3.0),))


def test_where_nothing_deviates_at_all_the_parameters_go_step_by_step(clean: Clean) -> None:
    same = heat_of(clean.verdict([msgspec.structs.replace(clean.reference, rank=0)]))
    assert same.by_step_rung == "parameters"
    assert {ratio for row in same.by_step for ratio in row} == {0.0, None}


def test_a_run_that_shows_no_tensors_has_no_heat_map(tmp_path: Path) -> None:
    assert Clean(tmp_path, leave_out=RUNGS).judge().heat is None


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_is_no_number_survives_being_written_and_read(clean: Clean, value: float) -> None:
    verdict = clean.judge(tamper=off("parameters", 3, 0, "one.bias", by=value))
    found = heat_of(verdict)
    assert call(found, "parameters", "one.bias") == sys.float_info.max
    assert msgspec.json.decode(store.encode(verdict), type=Verdict) == verdict


def test_where_the_reference_is_no_number_nothing_is_shown() -> None:
    found = comparison("parameters", [[1.0, 1.0], [1.0, 1.0]])
    found.size[1, 0] = math.inf
    map_ = heat([found], 100.0)
    assert map_ is not None
    assert map_.by_step == ((1.0, None), (1.0, 1.0))


def test_pieces_on_several_ranks_and_stages_of_a_pipeline_make_one_map(clean: Clean, tmp_path: Path) -> None:
    def stages(_rung: Rung, name: str, shape: tuple[int, ...]) -> Held:
        if name == "one.weight":
            boxes: list[tuple[int, Box]] = [(0, (slice(0, 3), slice(0, 5))), (1, (slice(3, 6), slice(0, 5)))]
            return boxes
        return [(0 if name.endswith("one.bias") or name == "fixed" else 1, None)]

    (whole,) = train(tmp_path / "whole", shards=2, tamper=off("parameters", 4, None, "one.weight"))
    verdict = clean.verdict(spread(whole, tmp_path / "pieces", stages))
    assert verdict.conclusion == "different"
    assert heat_of(verdict).tensors == ORDER
    assert_agrees(verdict)


def test_sketched_tensors_are_on_the_map(tmp_path: Path) -> None:
    verdict = Clean(tmp_path, sketch_above=20).judge()
    assert verdict.equivalent, verdict
    assert_agrees(verdict)


def test_only_the_closest_calls_of_a_large_model_are_kept_in_model_order() -> None:
    ratios = [float(i % 60) for i in range(60)]
    found = heat([comparison("parameters", [ratios])], 100.0)
    assert found is not None
    assert found.tensors == tuple(f"layer{i}.weight" for i in range(60 - MOST_TENSORS, 60))
    assert found.num_left_out == 60 - MOST_TENSORS


def test_a_long_run_keeps_its_ends_and_its_hottest_step() -> None:
    ratios = [[1.0]] * 1_000
    ratios[333] = [7.0]
    found = heat([comparison("parameters", ratios, first=-1)], 100.0)
    assert found is not None
    assert len(found.steps) <= MOST_STEPS
    assert (found.steps[0], found.steps[-1]) == (-1, 998)
    assert max(zip(found.by_step[0], found.steps, strict=True)) == (7.0, 332)


def test_buffers_stand_beside_the_parameters_of_their_layer() -> None:
    layers = comparison("parameters", [[1.0, 1.0]])
    buffer = Tensor(name="layer0.running_mean", shape=(2,))
    statistics = dataclasses.replace(comparison("buffers", [[1.0]]), tensors=(buffer,))
    found = heat([layers, statistics], 100.0)
    assert found is not None
    assert found.tensors == ("layer0.weight", "layer0.running_mean", "layer1.weight")
    assert found.rungs["buffers"] == (None, 1.0, None)


def test_ratios_have_three_digits() -> None:
    found = heat([comparison("parameters", [[1.23456]])], 100.0)
    assert found is not None
    assert found.rungs == {"parameters": (1.23,)}
