"""A layer with an expert that only some samples use."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch, which is not installed")

from harness import plan, workloads
from harness.datasets import base as datasets
from harness.features import features
from harness.loops.torch_routed import Routed

pytestmark = pytest.mark.torch


def layer() -> Routed:
    torch.manual_seed(0)
    return Routed(4, 3, 0.5).double()


def test_a_sample_is_computed_alike_in_any_company() -> None:
    module = layer()
    inputs = torch.linspace(-1, 2, 24, dtype=torch.float64).reshape(6, 4)
    together = module(inputs)
    assert torch.allclose(together, torch.cat([module(row[None]) for row in inputs]), rtol=0, atol=1e-15)
    bright = inputs.mean(1) > 0.5
    assert 0 < bright.sum() < len(inputs)
    assert torch.equal(together[~bright], module.common(inputs[~bright]))
    assert not torch.allclose(together[bright], module.common(inputs[bright]))


def test_an_expert_without_samples_gets_no_gradient() -> None:
    module = layer()
    module(torch.zeros(2, 4, dtype=torch.float64)).sum().backward()
    assert module.common.weight.grad is not None
    assert module.expert.weight.grad is None


def test_the_shipped_workload_leaves_ranks_and_once_everybody_without_the_expert(tmp_path: Path) -> None:
    workload = workloads.get("digits-routed-mlp")
    assert "routed" in features(workload)
    images = datasets.load(workload, cache=str(tmp_path), data_root=None).images
    bright = images.reshape(len(images), -1).mean(1) > 0.15
    steps = list(plan.check_steps(workload))
    counts = {
        size: [[int(bright[plan.shard(step.micro_batches[0], r, size)].sum()) for r in range(size)] for step in steps]
        for size in (2, 3, 4)
    }
    assert sum(counts[2][0]), "the first step makes the state that every later step must have"
    assert not sum(counts[2][3]), "a step in which nobody uses it, before the last"
    for size, rows in counts.items():
        assert any(0 in row and sum(row) for row in rows[:3]), f"some of {size} ranks use it, others do not"
