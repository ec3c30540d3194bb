"""How many seeds are trained, and what each of them trains."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from harness import Workload, trials
from harness.datasets.base import Data
from harness.oracles.pair import Pair
from harness.record import Divergence, Trace
from harness.recorder import Recorder, read
from harness.spec import Check, Job

WORKLOAD = Workload(name="w", model="mlp", dataset="digits", seed=3)


class Trainer:
    """Hands out differences of the held-out loss, scaled so that 1 is the margin, and remembers the seeds."""

    def __init__(self, *differences: float) -> None:
        self.differences = differences
        self.seeds: list[int] = []

    def __call__(self, workload: Workload) -> Pair:
        away = self.differences[len(self.seeds) % len(self.differences)] * 0.1
        self.seeds.append(workload.seed)
        return Pair(
            seed=workload.seed,
            start=2.3,
            held_out=(0.3, 0.3 + away),
            training=None,
            first=None,
            last=None,
            broken=None,
            why="",
            not_shown={},
        )


def data(num_samples: int, num_held_out: int) -> Data:
    images = np.zeros((1, 1, 1, 1), np.float32)
    return Data(
        images=images,
        labels=np.zeros(num_samples, np.int64),
        held_out_images=images,
        held_out_labels=np.zeros(num_held_out, np.int64),
        num_classes=10,
    )


def test_a_pilot_is_enough_where_seeds_agree() -> None:
    train = Trainer(0.1, -0.1)
    assert trials.judge(WORKLOAD, train).equivalent
    assert train.seeds == [3, 4, 5, 6, 7]


def test_noise_is_met_with_more_seeds() -> None:
    train = Trainer(0.8, -0.8, 0.7, -0.7)
    assert trials.judge(WORKLOAD, train).equivalent
    assert 5 < len(train.seeds) <= 16


def test_noise_that_no_number_of_seeds_will_settle_costs_no_more_than_the_pilot() -> None:
    train = Trainer(4.0, -4.0)
    verdict = trials.judge(WORKLOAD, train)
    assert verdict.conclusion == "inconclusive"
    assert len(train.seeds) == 5


def test_what_differs_plainly_is_told_after_the_pilot() -> None:
    train = Trainer(9.0, 8.0, 7.0)
    assert trials.judge(WORKLOAD, train).conclusion == "different"
    assert len(train.seeds) == 5


def test_a_broken_pair_ends_it() -> None:
    broken = Divergence(rung="parameters", step=3, rank=1, tensor="w", observed=1.0, floor=0.1, threshold=0.2)
    train = Trainer(0.0)
    verdict = trials.judge(WORKLOAD, lambda seeded: dataclasses.replace(train(seeded), broken=broken, why="no"))
    assert (verdict.conclusion, train.seeds) == ("different", [3])


def test_an_interrupted_training_is_not_verified_rather_than_trained_in_one_go() -> None:
    train = Trainer(0.0)
    resumed = Workload(name="w", model="mlp", dataset="digits", check=Check(resume_at=2))
    assert trials.judge(resumed, train).conclusion == "not-verified"
    assert train.seeds == []


@pytest.mark.parametrize(
    ("num_samples", "num_held_out", "expected"),
    [(1438, 359, (256, 64, 256)), (512, 128, (256, 64, 128)), (100, 10, (96, 32, 10)), (40, 10, (32, 32, 10))],
)
def test_a_pair_trains_ten_even_epochs_in_float32(
    num_samples: int, num_held_out: int, expected: tuple[int, int, int]
) -> None:
    trained = trials.training(WORKLOAD, data(num_samples, num_held_out), ("float64", "float32"))
    check = trained.check
    assert (check.num_samples, check.global_batch, check.num_held_out) == expected
    assert (check.num_steps, check.dtype, trained.seed) == (40, "float32", 3)


def test_of_a_serial_run_only_what_a_pair_needs_is_kept(tmp_path: Path) -> None:
    recorder = Recorder(Job(function="a:b", strategy="s", workload=WORKLOAD, directory=str(tmp_path)))
    for step in range(3):
        recorder.tap("loss", step, "loss", float(step))
        recorder.tap("gradients before clipping", step, "w", np.full(4, step))
        recorder.tap("parameters", step, "w", np.full(4, step))
    (trace,) = recorder.traces()
    kept: Trace = trials.pared(trace)
    assert set(kept.rungs) == {"loss", "gradients before clipping"}
    assert read(kept.rungs["loss"]).shape == (3, 1)
    lengths = kept.rungs["gradients before clipping"]
    assert (lengths.steps, read(lengths)[:, 0].tolist()) == ((0, 1, 2), [0, 1, 2])
    assert not Path(trace.rungs["parameters"].file).exists()
