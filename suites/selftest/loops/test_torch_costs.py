"""What layers cost is measured, and the model that is measured stays as it was."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch, which is not installed")

from harness import workloads
from harness.loops import torch_model
from harness.loops.torch_costs import measured_costs, sample

pytestmark = pytest.mark.torch


def test_every_layer_has_its_cost_and_the_model_stays_as_it_was() -> None:
    workload = workloads.get("digits-batchnorm-even")
    model = torch_model.build(workload, dtype=torch.float64, device="cpu")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    costs = measured_costs(model, sample(workload, model, 4))
    assert len(costs) == len(model)
    assert min(costs) > 0
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_sample_has_a_mask_for_every_dropout() -> None:
    workload = workloads.get("digits-cnn-adamw-clipped")
    model = torch_model.build(workload, dtype=torch.float64, device="cpu")
    images, mask = sample(workload, model, 3)
    assert images.shape == (3, *workload.shape)
    assert (mask.shape, mask.dtype) == ((3, 64), torch.uint8)
