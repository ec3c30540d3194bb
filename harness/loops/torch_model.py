"""PyTorch modules for a described model: real ``torch.nn`` modules that let dropout masks travel with the activations.

A network takes ONE argument, so that every engine can pass it on: a tensor, or a tuple (activations, mask, ...) with
a mask per dropout site still ahead:

    (x, m1, m2) -> conv1 -> (x, m1, m2) -> dropout1 -> (x, m2) -> dense1 -> (x, m2) -> dropout2 -> x
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import TypeAlias

import torch
from torch import nn

from harness.errors import SpecError
from harness.models import base
from harness.resolve import resolve
from harness.spec import Workload

Travelling: TypeAlias = torch.Tensor | tuple[torch.Tensor, ...]


class _Headed(nn.Module):
    """Mixed in front of a module: it acts on the head of a tuple and hands the masks on."""

    def forward(self, inputs: Travelling) -> Travelling:
        head, *masks = (inputs,) if isinstance(inputs, torch.Tensor) else inputs
        output: torch.Tensor = super().forward(head)
        return (output, *masks) if masks else output


def _headed(kind: type[nn.Module]) -> type[nn.Module]:
    """Return a subclass of a module class that hands masks on; it is still found as that class by converters."""
    return type(kind.__name__, (_Headed, kind), {"__module__": __name__, "__doc__": f"{kind.__name__}, masks aside."})


Conv2d = _headed(nn.Conv2d)
Linear = _headed(nn.Linear)
BatchNorm1d = _headed(nn.BatchNorm1d)
BatchNorm2d = _headed(nn.BatchNorm2d)
ReLU = _headed(nn.ReLU)
MaxPool2d = _headed(nn.MaxPool2d)
Flatten = _headed(nn.Flatten)


class MaskedDropout(nn.Module):
    """Dropout by the first mask of a tuple (1 = kept); the identity in evaluation, where a plain tensor comes."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, inputs: Travelling) -> Travelling:
        """Return the activations, with the masks that are left if there are any."""
        if isinstance(inputs, torch.Tensor):
            if self.training:
                raise ValueError(
                    "expected (activations, mask, ...) in training but got a tensor; pass Batch.masks, or call eval()"
                )
            return inputs
        head, mask, *rest = inputs
        if self.training:
            head = head * mask.to(head.dtype) / (1 - self.rate)
        return (head, *rest) if rest else head


def build(workload: Workload, *, dtype: torch.dtype, device: str) -> nn.Sequential:
    """Return the workload's model with its seed weights, in training mode.

    Parameters and buffers bear the canonical names of ``harness.models.base``; batch norms also count their batches
    (``num_batches_tracked``), which has no canonical counterpart. What two layers share bears the name of the first.
    The parameters of ``workload.frozen`` layers take no gradient.

    Raises:
        SpecError: the function of a Block returns no module.
        MissingRequirementError: a Block needs a package that is not installed.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    flat = False
    described = base.layers(workload)
    for name, layer in zip(base.layer_names(described), described, strict=True):
        flat = flat or isinstance(layer, base.Flatten)
        modules[name] = _module(layer, flat=flat)
        if isinstance(layer, base.Dense) and layer.tied is not None:
            modules[name].weight, modules[name].bias = modules[layer.tied].weight, modules[layer.tied].bias
    network = nn.Sequential(modules).to(device=device, dtype=dtype)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    load(network, base.initial(workload.seed, shapes))
    for name in workload.frozen:
        network.get_submodule(name).requires_grad_(False)
    return network


@torch.no_grad()
def load(network: nn.Module, weights: dict[str, base.Float64]) -> None:
    """Copy weights by canonical name into the network, rounding them to its dtype."""
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    for name, value in weights.items():
        tensors[name].copy_(torch.from_numpy(value))


def sum_in_parts(network: nn.Module, num_parts: int) -> None:
    """Let every linear layer sum over its input features in parts, as ranks do that share them out.

    Only the order of summation changes, and with it how the arithmetic of every single sample rounds.
    """

    def forward(layer: nn.Linear, inputs: Travelling) -> Travelling:
        head, *masks = (inputs,) if isinstance(inputs, torch.Tensor) else inputs
        pieces = zip(head.tensor_split(num_parts, -1), layer.weight.tensor_split(num_parts, 1), strict=True)
        output = functools.reduce(torch.add, [nn.functional.linear(part, weight) for part, weight in pieces])
        output = output if layer.bias is None else output + layer.bias.to(output.dtype)
        return (output, *masks) if masks else output

    for layer in network.modules() if num_parts > 1 else ():
        if isinstance(layer, nn.Linear):
            layer.forward = functools.partial(forward, layer)  # type: ignore[method-assign, assignment]


def accept_masks(network: nn.Sequential) -> nn.Sequential:
    """Make children that a library converted (SyncBatchNorm, DeferredBatchNorm) hand masks on, too; return it."""
    for child in network:
        if not isinstance(child, _Headed | MaskedDropout):
            child.__class__ = _headed(type(child))
    return network


def _module(layer: base.Layer, *, flat: bool) -> nn.Module:
    module: nn.Module
    match layer:
        case base.Conv(in_channels=ins, out_channels=outs, kernel=kernel):
            module = Conv2d(ins, outs, kernel, padding=kernel // 2)
        case base.BatchNorm(num_features=features, epsilon=epsilon, momentum=momentum):
            module = (BatchNorm1d if flat else BatchNorm2d)(features, eps=epsilon, momentum=momentum)
        case base.ReLU():
            module = ReLU()
        case base.MaxPool(size=size):
            module = MaxPool2d(size)
        case base.Flatten():
            module = Flatten()
        case base.Dense(in_features=ins, out_features=outs):
            module = Linear(ins, outs)
        case base.Dropout(rate=rate):
            module = MaskedDropout(rate)
        case base.Block():
            module = _block(layer)
    return module


def _block(block: base.Block) -> nn.Module:
    """Return a block's module, made to hand masks on: its inner modules see plain tensors."""
    module = resolve(block.module)(**block.settings)
    if not isinstance(module, nn.Module):
        raise SpecError(f"expected {block.module} of block {block.name!r} to return a module but got {module!r}")
    module.__class__ = _headed(type(module))
    return module
