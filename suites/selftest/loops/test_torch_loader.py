"""Batches from a DataLoader, in this process: the same numbers in the same order as without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch, which is not installed")

from harness import Workload, plan
from harness.datasets import base as datasets
from harness.datasets.batches import Batch, make_batch
from harness.loops.torch_loader import feed, keys
from harness.models import base as models
from harness.plan import Indices
from harness.spec import Check

pytestmark = pytest.mark.torch
WORKLOAD = Workload(
    name="loaded",
    model="mlp",
    dataset="synthetic",
    shape=(1, 8, 8),
    num_classes=4,
    num_samples=64,
    dropout=0.25,
    augment="shift",
    accumulation=2,
    check=Check(num_samples=20, global_batch=8, num_held_out=10),
)
STEPS = tuple(plan.check_steps(WORKLOAD))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_delivers_what_is_made_without_one(num_workers: int, tmp_path: Path) -> None:
    data = datasets.load(WORKLOAD, cache=str(tmp_path), data_root=None)
    sites = models.dropout_sites(models.layers(WORKLOAD))

    def make(step: int, samples: Indices) -> Batch:
        return make_batch(WORKLOAD, data, samples, step=step, dtype="float64", sites=sites)

    fetch = feed(make, STEPS, num_workers=num_workers)
    for step in STEPS:
        for samples in step.micro_batches:
            wanted, got = make(step.number, samples), fetch(step.number, samples)
            pairs = [(wanted.samples, got.samples), (wanted.images, got.images), (wanted.labels, got.labels)]
            for expected, delivered in [*pairs, *zip(wanted.masks, got.masks, strict=True)]:
                assert delivered.dtype == expected.dtype
                np.testing.assert_array_equal(delivered, expected)


def test_every_key_names_the_step_that_trains_the_sample() -> None:
    flat = [key for batch in keys(STEPS) for key in batch]
    assert flat == [(step.number, int(i)) for step in STEPS for batch in step.micro_batches for i in batch]
    assert len(keys(STEPS)) == WORKLOAD.accumulation * len(STEPS)
