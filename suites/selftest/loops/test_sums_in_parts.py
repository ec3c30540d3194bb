"""The rerun of a reference whose linear layers sum in parts: the same maths, rounded otherwise."""

from __future__ import annotations

import msgspec
import pytest

from harness import jobs, workloads
from harness.models import base as models
from harness.strategies import base as strategies

torch = pytest.importorskip("torch")
from harness.loops import torch_model

strategies.discover()


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_sums_in_parts_are_the_same_but_for_rounding(dropout: float) -> None:
    workload = msgspec.structs.replace(workloads.get("digits-mlp"), dropout=dropout)
    images = torch.rand(5, *workload.shape, dtype=torch.float64)
    sites = models.dropout_sites(models.layers(workload))
    inputs = (images, *(torch.ones(5, *site.shape) for site in sites)) if sites else images
    network = torch_model.build(workload, dtype=torch.float64, device="cpu")
    whole = network(inputs)
    torch_model.sum_in_parts(network, 3)
    assert 0 < float((network(inputs) - whole).abs().max().detach()) < 1e-12


def test_only_what_shares_out_the_sums_of_a_layer_is_judged_with_them() -> None:
    workload = workloads.get("digits-mlp")
    parts = {
        name: [run.layer_parts for run in jobs.references(workload, strategies.get(name), 4).reruns]
        for name in ("torch-ddp", "torch-tp", "torch-fsdp-tp")
    }
    assert parts == {"torch-ddp": [1, 1], "torch-tp": [1, 1, 4], "torch-fsdp-tp": [1, 1, 2]}
