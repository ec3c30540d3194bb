"""Judging over paired seeds: what the losses say, and what no compression excuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from harness.errors import TraceError, UsageError
from harness.oracles import statistical
from harness.oracles.pair import Pair, held_out_loss, observe
from harness.oracles.spread import NOTHING_SHARED
from harness.record import Divergence, Rung, Trace, Verdict
from harness.recorder import Recorder, read
from harness.spec import Job, Workload

LABELS = np.array([0, 1, 2, 1])
# What serial training gains here: from 2.3 to 0.3, so that the margin is 0.1.
START, END = 2.3, 0.3
NAMES = ("held-out loss", "mean training loss", "log gradient length at first", "log gradient length at last")


def pair(seed: int, held_out: float, training: float | None = 0.0, times: float | None = 1.0) -> Pair:
    """A pair whose parallel losses are higher than serial's by so much, and its gradients so many times longer."""
    return Pair(
        seed=seed,
        start=START,
        held_out=(END, END + held_out),
        training=None if training is None else (1.0, 1.0 + training),
        first=None if times is None else (-1.0, -1.0 + math.log(times)),
        last=None if times is None else (-2.0, -2.0 + math.log(times)),
        broken=None,
        why="",
        not_shown={},
    )


def pairs(
    mean: float, spread: float, num: int = 8, *, training: float | None = 0.0, times: float | None = 1.0
) -> list[Pair]:
    draw = np.random.default_rng(1).normal(0, 1, num)
    scores = (draw - draw.mean()) / draw.std(ddof=1)
    return [pair(seed, mean + spread * float(score), training, times) for seed, score in enumerate(scores)]


def test_noise_within_the_margin_is_equivalent_and_the_verdict_says_in_numbers_why() -> None:
    verdict = statistical.judge(pairs(0.001, 0.02))
    assert verdict.equivalent
    assert verdict.reference == "statistical"
    assert verdict.reason == (
        "over 8 paired seeds, parallel - serial: held-out loss +0.001 [-0.012, +0.014] where +-0.1 is allowed, "
        "mean training loss +0 [+0, +0] where +-0.1 is allowed, "
        "log gradient length at first +0 [+0, +0] where +-0.41 is allowed, "
        "log gradient length at last +0 [+0, +0] where +-0.41 is allowed; "
        "within 5 % of what serial training gains, or a factor of 1.5 in its gradients"
    )
    held_out = verdict.statistics[0]
    assert tuple(found.name for found in verdict.statistics) == NAMES
    assert held_out.seeds == tuple(range(8))
    assert held_out.low < held_out.mean < held_out.high < held_out.margin


@pytest.mark.parametrize("mean", [0.3, -0.3])
def test_a_shift_beyond_the_margin_is_different_whichever_way_it_goes(mean: float) -> None:
    verdict = statistical.judge(pairs(mean, 0.02))
    assert verdict.conclusion == "different"
    assert "where +-0.1 is allowed; wholly beyond" in verdict.reason
    assert "gradient length" not in verdict.reason


def test_a_shift_that_only_training_shows_is_different() -> None:
    verdict = statistical.judge(pairs(0.0, 0.02, training=0.3))
    assert verdict.conclusion == "different"
    assert "mean training loss" in verdict.reason
    assert "held-out" not in verdict.reason


@pytest.mark.parametrize(("times", "expected"), [(2.0, "different"), (0.5, "different"), (1.4, "equivalent")])
def test_gradients_of_another_scale_are_different_whatever_the_losses_say(times: float, expected: str) -> None:
    verdict = statistical.judge(pairs(0.0, 0.02, times=times))
    assert verdict.conclusion == expected, verdict
    if expected == "different":
        assert f"serial: log gradient length at first {math.log(times):+.2g}" in verdict.reason
        assert "where +-0.41 is allowed; wholly beyond" in verdict.reason


@pytest.mark.parametrize("when", ["first", "last"])
def test_a_wrong_scale_at_one_end_of_training_is_enough(when: str) -> None:
    """Under SGD training makes up for it by the end; a bug may also begin late."""
    away: dict[str, Any] = {when: (-2.0, -2.0 + math.log(2))}
    verdict = statistical.judge([replace(one, **away) for one in pairs(0.0, 0.02)])
    assert verdict.conclusion == "different"
    assert f"serial: log gradient length at {when} +0.69" in verdict.reason


@pytest.mark.parametrize("when", ["first", "last"])
@pytest.mark.parametrize(
    ("lengths", "expected", "told"),
    [
        ((-2.0, math.nan), "different", "the gradient is not finite, where serial training's is"),
        ((-2.0, -math.inf), "different", "the gradient is not finite, where serial training's is"),
        ((-math.inf, -math.inf), "inconclusive", "serial training itself ends with no finite gradient"),
    ],
)
def test_gradients_that_vanish_or_are_no_numbers(
    lengths: tuple[float, float], expected: str, told: str, when: str
) -> None:
    away: dict[str, Any] = {when: lengths}
    verdict = statistical.judge([*pairs(0.0, 0.02), replace(pair(8, 0.0), **away)])
    assert (verdict.conclusion, verdict.reason) == (expected, f"{told} (seed 8)")


def test_too_much_noise_is_inconclusive_and_says_how_many_seeds_would_tell() -> None:
    verdict = statistical.judge(pairs(0.0, 0.3))
    assert verdict.conclusion == "inconclusive"
    needed = verdict.statistics[0].needed
    assert needed > statistical.MOST
    assert f"this spread takes {needed} seeds, and 16 are trained at most" in verdict.reason


def test_at_the_margin_no_number_of_seeds_is_promised() -> None:
    verdict = statistical.judge(pairs(0.1, 0.02))
    assert verdict.conclusion == "inconclusive"
    assert "too close to it to tell" in verdict.reason


def test_where_no_step_has_a_loss_the_held_out_loss_decides() -> None:
    verdict = statistical.judge(pairs(0.0, 0.02, training=None, times=None))
    assert verdict.equivalent
    assert [found.name for found in verdict.statistics] == ["held-out loss"]
    (_, *lengths) = statistical.judge(pairs(0.0, 0.02, training=None)).statistics
    assert tuple(found.name for found in lengths) == NAMES[2:]


def test_one_broken_pair_is_enough() -> None:
    broken = Divergence(rung="parameters", step=3, rank=1, tensor="w", observed=1.0, floor=0.1, threshold=0.2)
    verdict = statistical.judge([replace(pair(7, 0.0), broken=broken, why="ranks part")])
    assert (verdict.conclusion, verdict.reason) == ("different", "ranks part (seed 7)")
    assert verdict.divergence == broken


def test_losses_that_are_no_numbers() -> None:
    diverged = [*pairs(0.0, 0.02), pair(8, np.nan)]
    assert statistical.judge(diverged).conclusion == "different"
    both = [*pairs(0.0, 0.02), replace(pair(8, 0.0), held_out=(np.inf, np.inf))]
    assert statistical.judge(both).conclusion == "inconclusive"


def test_a_training_that_gains_nothing_has_nothing_to_lose() -> None:
    verdict = statistical.judge([replace(pair(seed, 0.0), start=0.2) for seed in range(5)])
    assert verdict.conclusion == "inconclusive"
    assert "gains nothing" in verdict.reason


def test_one_pair_is_too_few() -> None:
    with pytest.raises(UsageError, match="expected at least two pairs of trainings but got 1"):
        statistical.judge([pair(0, 0.0)])


def test_a_verdict_survives_json() -> None:
    verdict = statistical.judge(pairs(0.001, 0.02))
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict


# -- what a pair of trainings shows ----------------------------------------------------------------------------------


def test_the_held_out_loss_is_the_cross_entropy() -> None:
    assert held_out_loss(np.zeros((4, 3)), LABELS) == pytest.approx(np.log(3))
    large = np.eye(3)[LABELS] * 1e4
    assert held_out_loss(large, LABELS) == 0.0
    assert np.isnan(held_out_loss(np.full((4, 3), np.nan), LABELS))


Change = Callable[[str, int, int, np.ndarray], np.ndarray]


def untouched(_rung: str, _step: int, _rank: int, value: np.ndarray) -> np.ndarray:
    return value


def traces(folder: Path, num_ranks: int = 2, change: Change = untouched) -> list[Trace]:
    """Two steps of two ranks that train one sample each, or of one that trains both."""
    folder.mkdir()
    job = Job(function="a:b", strategy="s", workload=Workload(name="w", model="m", dataset="d"), directory=str(folder))
    recorder = Recorder(job)
    for rank in range(num_ranks):
        for step in range(2):
            samples = np.array([2 * step, 2 * step + 1])
            samples = samples if num_ranks == 1 else np.where(np.arange(2) == rank, samples, -1)
            values = {
                "data order": ("samples", samples),
                "loss": ("loss", np.array(2.0 - step, np.float32)),
                "gradients before clipping": ("w", np.full(5, 1.0 + step, np.float32)),
                "parameters": ("w", np.full(5, 3.0 - step, np.float32)),
            }
            for rung, (name, value) in values.items():
                recorder.tap(rung, step, name, change(rung, step, rank, value), rank=rank)  # type: ignore[arg-type]
        recorder.tap("predictions", 1, "logits", change("predictions", 1, rank, np.zeros((4, 3))), rank=rank)
    return list(recorder.traces())


def observed(folder: Path, change: Change = untouched, **declared: str) -> Pair:
    (serial,) = traces(folder / "serial", 1)
    ranks = traces(folder / "ranks", change=change)
    ranks = [msgspec.structs.replace(trace, not_shown=declared) for trace in ranks]
    return observe(seed=4, reference=serial, parallel=ranks, labels=LABELS)


def test_a_sound_pair_shows_its_losses(tmp_path: Path) -> None:
    found = observed(tmp_path)
    assert found.broken is None
    assert (found.seed, found.start, found.training) == (4, 2.0, (1.5, 1.5))
    # The last step's gradient is five twos; the first step's is for the exact condition.
    assert found.first == found.last == pytest.approx((math.log(2 * math.sqrt(5)),) * 2)
    assert found.held_out == pytest.approx((np.log(3), np.log(3)))


@pytest.mark.parametrize(("away", "broken"), [(0.05, False), (0.2, True), (-0.5, True), (np.nan, True)])
def test_the_first_gradient_may_lose_precision_and_nothing_else(tmp_path: Path, away: float, broken: bool) -> None:
    def change(rung: str, step: int, _rank: int, value: np.ndarray) -> np.ndarray:
        first = rung == "gradients before clipping" and step == 0
        return value * np.float32(1 + away) if first else value

    found = observed(tmp_path, change)
    assert (found.broken is not None) is broken
    assert ("first gradient" in found.why) is broken


def test_of_a_later_gradient_only_the_length_counts_as_the_weights_are_others(tmp_path: Path) -> None:
    def change(rung: str, step: int, _rank: int, value: np.ndarray) -> np.ndarray:
        return value * -2 if rung == "gradients before clipping" and step == 1 else value

    found = observed(tmp_path, change)
    assert found.broken is None
    assert found.last is not None
    assert found.last[1] - found.last[0] == pytest.approx(math.log(2))


def test_a_gradient_that_is_shown_at_the_first_step_only_is_refused(tmp_path: Path) -> None:
    (serial,) = traces(tmp_path / "serial", 1)
    first, second = traces(tmp_path / "ranks")
    file = second.rungs["gradients before clipping"]
    np.save(file.file, read(file)[:1])
    short = second.rungs | {"gradients before clipping": msgspec.structs.replace(file, steps=(0,))}
    with pytest.raises(TraceError, match=r"expected step 1 in .* but got \[0\]; tap every step"):
        observe(seed=0, reference=serial, parallel=[first, msgspec.structs.replace(second, rungs=short)], labels=LABELS)


@pytest.mark.parametrize(("away", "broken"), [(2.0**-22, False), (1e-4, True)])
def test_ranks_must_end_with_the_same_parameters(tmp_path: Path, away: float, broken: bool) -> None:
    def change(rung: str, _step: int, rank: int, value: np.ndarray) -> np.ndarray:
        return value * np.float32(1 + away * rank) if rung == "parameters" else value

    found = observed(tmp_path, change)
    assert (found.broken is not None) is broken
    assert found.broken is None or (found.broken.rung, found.broken.rank) == ("parameters", 1)


def test_a_sample_that_is_trained_twice_is_found(tmp_path: Path) -> None:
    def change(rung: str, _step: int, rank: int, value: np.ndarray) -> np.ndarray:
        return np.array([0, 1]) if rung == "data order" and rank == 1 else value

    found = observed(tmp_path, change)
    assert found.broken is not None
    assert found.broken.rung == "data order"


def test_what_a_strategy_declares_it_is_not_held_to_and_the_verdict_says_so(tmp_path: Path) -> None:
    def change(rung: str, _step: int, rank: int, value: np.ndarray) -> np.ndarray:
        return value + rank if rung == "parameters" else value

    declared = {
        "gradients before clipping": "none is common",
        "parameters": "each worker has its own",
        "loss": "no step is common",
    }
    found = observed(tmp_path, change, **declared)
    assert found.broken is None
    assert (found.training, found.first, found.last) == (None, None, None)
    assert found.not_shown == declared


def test_what_is_neither_shown_nor_declared_is_refused(tmp_path: Path) -> None:
    (serial,) = traces(tmp_path / "serial", 1)
    first, second = traces(tmp_path / "ranks")
    silent = msgspec.structs.replace(second, rungs={k: v for k, v in second.rungs.items() if k != "parameters"})
    with pytest.raises(TraceError, match="'parameters': neither shown nor declared by rank 1"):
        observe(seed=0, reference=serial, parallel=[first, silent], labels=LABELS)


@pytest.mark.parametrize("rung", ["gradients before clipping", "parameters", "loss"])
def test_one_rank_cannot_declare_away_what_others_show(tmp_path: Path, rung: Rung) -> None:
    (serial,) = traces(tmp_path / "serial", 1)
    first, second = traces(tmp_path / "ranks")
    rest = {at: file for at, file in second.rungs.items() if at != rung}
    silent = msgspec.structs.replace(second, rungs=rest, not_shown={rung: "no hook"})
    with pytest.raises(TraceError, match=f"'{rung}': neither shown nor declared by rank 1"):
        observe(seed=0, reference=serial, parallel=[first, silent], labels=LABELS)


@pytest.mark.parametrize("rung", ["data order", "predictions"])
def test_one_process_may_tell_the_samples_and_predict_for_all(tmp_path: Path, rung: Rung) -> None:
    def change(at: str, step: int, _rank: int, value: np.ndarray) -> np.ndarray:
        return np.array([2 * step, 2 * step + 1]) if at == "data order" else value

    (serial,) = traces(tmp_path / "serial", 1)
    first, second = traces(tmp_path / "ranks", change=change)
    hidden: set[Rung] = {"data order", rung}
    rest = {at: file for at, file in second.rungs.items() if at not in hidden}
    silent = msgspec.structs.replace(second, rungs=rest, not_shown=dict.fromkeys(hidden, "rank 0 tells it"))
    first = msgspec.structs.replace(first, not_shown={})
    found = observe(seed=0, reference=serial, parallel=[first, silent], labels=LABELS)
    assert found.broken is None
    assert found.held_out[0] == found.held_out[1]


def test_trainings_that_shared_nothing_prove_nothing() -> None:
    found = [replace(one, alone=True) for one in pairs(0.0, 0.01)]
    verdict = statistical.judge(found)
    assert (verdict.conclusion, verdict.reason) == ("not-verified", NOTHING_SHARED)
    worse = [replace(one, alone=True) for one in pairs(1.0, 0.01)]
    assert statistical.judge(worse).conclusion == "different", "a difference is told all the same"
