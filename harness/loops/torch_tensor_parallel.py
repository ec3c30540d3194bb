"""Tensor parallelism: which linear layers ranks share out, and how the masks of a travelling batch follow.

    x (whole) -> [columns of dense1] -> own columns -> relu, dropout by own columns of masks -> [rows of dense2] -> sum

Two linear layers with nothing but element-wise ones in between make such a pair, so do attention's projections (whole
heads a rank) and its output. A linear layer without a partner gathers its columns. All else is whole on every rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

from harness.loops.torch_blocks import EncoderBlock
from harness.loops.torch_model import MaskedDropout, Travelling
from harness.loops.torch_sharding import tied

_ELEMENTWISE = (nn.ReLU, nn.GELU, nn.Dropout, MaskedDropout)


class Spread(NamedTuple):
    """How the ranks share a linear layer, and how many masks its output meets while it lies in columns."""

    style: ParallelStyle
    num_masks: int = 0


def spread(model: nn.Sequential, mesh: DeviceMesh) -> nn.Module:
    """Share out the linear layers of ``model`` over the ranks of a mesh of one dimension, in place."""
    layers = plan(model, mesh.size())
    parallelize_module(model, mesh, {name: layer.style for name, layer in layers.items()})
    for name, layer in layers.items():
        if "." not in name:  # inside a block no masks travel
            _lead_masks_past(model.get_submodule(name), layer.num_masks, mesh)
    return model


def plan(model: nn.Sequential, num_ranks: int) -> dict[str, Spread]:
    """Return how each linear layer is shared out, by its name; the others stay whole on every rank.

    So do layers that use one tensor, of which each would be given pieces of its own.
    """
    shared = tied(model)
    found: dict[str, Spread] = {}
    for name, module in model.named_modules():
        if isinstance(module, EncoderBlock):
            found |= {f"{name}.{inner}": Spread(ColwiseParallel()) for inner in ("q", "k", "v", "up")}
            found |= {f"{name}.{inner}": Spread(RowwiseParallel()) for inner in ("out", "down")}
        elif isinstance(module, nn.Sequential):
            layers = [(f"{name}.{inner}".lstrip("."), child) for inner, child in module.named_children()]
            found |= dict(_pairs(layers, shared, num_ranks))
    return found


def _pairs(
    layers: list[tuple[str, nn.Module]], shared: set[nn.Parameter], num_ranks: int
) -> Iterator[tuple[str, Spread]]:
    """Yield how the linear layers among consecutive ones are shared out."""

    def width(place: int) -> int | None:
        layer = layers[place][1] if place < len(layers) else None
        return layer.out_features if isinstance(layer, nn.Linear) and not shared & {*layer.parameters()} else None

    place = 0
    while place < len(layers):
        name, columns = layers[place][0], width(place)
        follows = place + 1
        while follows < len(layers) and isinstance(layers[follows][1], _ELEMENTWISE):
            follows += 1
        if columns is None:
            place += 1
        elif columns < num_ranks:
            # DTensor (torch 2.15) gives a piece without rows a whole gradient, which Adam then refuses.
            place += 1
        elif width(follows) is not None and columns % num_ranks == 0:
            num_masks = sum(isinstance(between, MaskedDropout) for _, between in layers[place:follows])
            yield name, Spread(ColwiseParallel(), num_masks)
            yield layers[follows][0], Spread(RowwiseParallel())
            place = follows + 1
        else:
            yield name, Spread(ColwiseParallel(output_layouts=Replicate()))
            place += 1


def _lead_masks_past(layer: nn.Module, num_masks: int, mesh: DeviceMesh) -> None:
    """Let a shared-out layer see the activations only, and hand the masks on, the next ``num_masks`` by own columns."""
    waiting: list[torch.Tensor] = []

    def part(_layer: nn.Module, inputs: tuple[Travelling]) -> tuple[torch.Tensor]:
        head, *waiting[:] = (inputs[0],) if isinstance(inputs[0], torch.Tensor) else inputs[0]
        return (head,)

    def join(_layer: nn.Module, _inputs: object, output: torch.Tensor) -> Travelling:
        own = [mask.chunk(mesh.size(), dim=-1)[mesh.get_local_rank()] for mask in waiting[:num_masks]]
        return (output, *own, *waiting[num_masks:]) if waiting else output

    layer.register_forward_pre_hook(part, prepend=True)
    layer.register_forward_hook(join)
