"""Running statistics of groups that are processed one after the other, as torchgpipe keeps them."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch, which is not installed")

from torch import nn

from harness.loops.torch_buffers import KeptBuffers, updated_once

pytestmark = pytest.mark.torch


def trained(model: nn.Module, groups: list[Any]) -> dict[str, Any]:
    with updated_once(model):
        for group in groups:
            with KeptBuffers(model):
                model(group)
    return {name: buffer for name, buffer in model.named_buffers() if buffer.is_floating_point()}


@pytest.mark.parametrize("shape", [(3,), (3, 4, 5)])
def test_deferred_statistics_are_those_of_torchgpipe(shape: tuple[int, ...]) -> None:
    batchnorm = pytest.importorskip("torchgpipe.batchnorm")
    torch.manual_seed(0)
    groups = [torch.randn(size, *shape, dtype=torch.float64) for size in (7, 7, 5)]
    model = nn.Sequential((nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d)(3)).double()
    library = batchnorm.DeferredBatchNorm.convert_deferred_batch_norm(
        nn.Sequential((nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d)(3)), chunks=3
    ).double()
    for _ in range(2):
        found = trained(model, groups)
        for group in groups:
            library(group)
    for name, value in found.items():
        torch.testing.assert_close(value, dict(library.named_buffers())[name], rtol=1e-13, atol=1e-15)


def test_the_variance_is_the_biased_one_of_all_groups() -> None:
    values = torch.tensor([[1.0], [2.0], [3.0], [6.0]])
    found = trained(nn.BatchNorm1d(1, momentum=1.0), [values[:2], values[2:]])
    torch.testing.assert_close(found["running_mean"], torch.tensor([3.0]))
    torch.testing.assert_close(found["running_var"], torch.tensor([3.5]))


def test_a_model_in_evaluation_mode_leaves_no_hook_behind() -> None:
    model = nn.BatchNorm1d(1)
    with updated_once(model):
        pass
    assert not model._forward_pre_hooks
