"""What the layers of a sequential model cost, measured."""

from __future__ import annotations

import copy
import time

import torch
from torch import nn

from harness.loops.torch_parallelism import Inputs
from harness.models import base as models
from harness.spec import Workload


def sample(workload: Workload, model: nn.Module, size: int) -> Inputs:
    """Return a batch of the workload's shape, masks included, as a model in training takes it."""
    parameter = next(model.parameters())
    images = torch.ones(size, *workload.shape, dtype=parameter.dtype, device=parameter.device)
    sites = models.dropout_sites(models.layers(workload))
    masks = [torch.ones(size, *site.shape, dtype=torch.uint8, device=parameter.device) for site in sites]
    return (images, *masks) if masks else images


def measured_costs(model: nn.Sequential, inputs: Inputs, *, num_passes: int = 3) -> list[float]:
    """Return the seconds of each layer's forward and backward, the shortest of some passes; the model stays as is."""
    layers = copy.deepcopy(model)
    passes = [_pass(layers, inputs) for _ in range(num_passes)]
    return [min(seconds) for seconds in zip(*passes, strict=True)]


def _pass(layers: nn.Sequential, inputs: Inputs) -> list[float]:
    seconds: list[float] = []
    for layer in layers:
        head, *masks = inputs if isinstance(inputs, tuple) else (inputs,)
        head = head.detach().requires_grad_(bool(seconds))
        begin_s = _now(head)
        inputs = layer((head, *masks) if masks else head)
        output = inputs[0] if isinstance(inputs, tuple) else inputs
        if output.requires_grad:
            output.sum().backward()  # type: ignore[no-untyped-call]
        seconds.append(_now(head) - begin_s)
    return seconds


def _now(value: torch.Tensor) -> float:
    if value.is_cuda:
        torch.cuda.synchronize(value.device)
    return time.perf_counter()
