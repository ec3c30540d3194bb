"""Tensor parallelism: which linear layers ranks share out, and how the masks of a travelling batch follow.

    x (whole) -> [columns of dense1] -> own columns -> relu, dropout by own columns of the mask -> [rows of dense2] -> sum

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
from harness.loops.torch_sharding import sharing_none

_ELEMENTWISE = (nn.ReLU, nn.GELU, nn.Dropout, MaskedDropout)


class Spread(NamedTuple):
    """How the ranks share a linear layer, and how many masks its output meets while it lies in columns."""

    style: ParallelStyle
    num_masks: int = 0


def spread(model: nn.Sequential, mesh: DeviceMesh) -> nn.Module:
    """Share out the linear layers of ``model`` over the ranks of a mesh of one dimension, in place."""
    found = plan(model, mesh.size())
    # Until here every layer is whole: what is replaced now is no longer shared with another one.
    parallelize_module(model, mesh, {name: layer.style for name, layer in found.items()})
    for name, layer in found.items():
        if "." not in name:  # inside a block no masks travel
            _lead_masks_past(model.get_submodule(name), layer.num_masks, mesh)
    return model


def plan(model: nn.Sequential, num_ranks: int) -> dict[str, Spread]:
    """Return how each linear layer is shared out, by its name; the others stay whole on every rank.

    So do layers that use one tensor: each would be given a copy of its own.
    """
    own = set(sharing_none(model))
    found: dict[str, Spread] = {}
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, EncoderBlock):
            found |= {f"{prefix}{inner}": Spread(ColwiseParallel()) for inner in ("q", "k", "v", "up")}
            found |= {f"{prefix}{inner}": Spread(RowwiseParallel()) for inner in ("out", "down")}
        elif isinstance(module, nn.Sequential):
            layers = [(f"{prefix}{inner}", child) for inner, child in module.named_children()]
            found |= dict(_pairs([(where, child) for where, child in layers if name or child in own or _passes(child)], num_ranks))
    return found
