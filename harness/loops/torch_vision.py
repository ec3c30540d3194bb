"""torchvision's networks in blocks from one tensor to one tensor: its own classes, without dropout inside.

Names inside a block are torchvision's; whoever joins the blocks in order has torchvision's network.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import nn

from harness.errors import MissingRequirementError

try:
    from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1  # type: ignore[import-untyped]
    from torchvision.models.swin_transformer import PatchMerging, SwinTransformerBlock  # type: ignore[import-untyped]
    from torchvision.models.vision_transformer import EncoderBlock  # type: ignore[import-untyped]
    from torchvision.ops.misc import Permute  # type: ignore[import-untyped]
except ModuleNotFoundError as error:
    raise MissingRequirementError(
        f"expected torchvision, whose blocks the model is made of, but {error}; install torchvision, or take another "
        "model"
    ) from error

# -- ResNet ----------------------------------------------------------------------------------------------------------


def resnet_stem(*, channels: int, width: int, kind: str) -> nn.Module:
    """Return the entrance of a ResNet, for large images (``imagenet``) or small ones (``cifar``)."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    large = kind == "imagenet"
    modules["conv1"] = (
        nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        if large
        else nn.Conv2d(channels, width, 3, padding=1, bias=False)
    )
    modules["bn1"] = nn.BatchNorm2d(width)
    modules["relu"] = nn.ReLU(inplace=True)
    if large:
        modules["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(modules)


def basic_block(*, in_channels: int, planes: int, stride: int) -> nn.Module:
    """Return a residual block of two 3x3 convolutions."""
    block: nn.Module = BasicBlock(in_channels, planes, stride, _shortcut(in_channels, planes, stride))
    return block


def bottleneck(*, in_channels: int, planes: int, stride: int) -> nn.Module:
    """Return a residual block of a 1x1, a 3x3 and a 1x1 convolution to four times as many channels."""
    shortcut = _shortcut(in_channels, planes * Bottleneck.expansion, stride)
    block: nn.Module = Bottleneck(in_channels, planes, stride, shortcut)
    return block


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


def mean_pool() -> nn.Module:
    """Return the mean over rows and columns, [n, c, h, w] to [n, c]."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


# -- Swin ------------------------------------------------------------------------------------------------------------


def swin_patches(*, channels: int, dim: int, patch: int) -> nn.Module:
    """Return the entrance of Swin, [n, c, h, w] to [n, h / patch, w / patch, dim]."""
    return nn.Sequential(nn.Conv2d(channels, dim, patch, stride=patch), Permute([0, 2, 3, 1]), nn.LayerNorm(dim))


def swin_block(*, dim: int, heads: int, window: int, shift: int) -> nn.Module:
    """Return attention inside windows, shifted by ``shift``, and a perceptron, on [n, h, w, dim]."""
    block: nn.Module = SwinTransformerBlock(dim, heads, window_size=[window, window], shift_size=[shift, shift])
    return block


def swin_merge(*, dim: int) -> nn.Module:
    """Return what makes one of 2x2 neighbours, [n, h, w, dim] to [n, h / 2, w / 2, 2 * dim]."""
    block: nn.Module = PatchMerging(dim)
    return block


def swin_pool(*, dim: int) -> nn.Module:
    """Return the last layer norm and the mean, [n, h, w, dim] to [n, dim]."""
    pooling = (Permute([0, 3, 1, 2]), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.LayerNorm(dim), *pooling)


# -- ViT -------------------------------------------------------------------------------------------------------------

_vit_norm = partial(nn.LayerNorm, eps=1e-6)


class VitTokens(nn.Module):
    """Images [n, c, h, w] to tokens [n, 1 + patches, dim], the class token first, plus their positions."""

    def __init__(self, channels: int, num_patches: int, patch: int, dim: int) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(channels, dim, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embedding = nn.Parameter(torch.zeros(1, 1 + num_patches, dim))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the tokens, patches row by row."""
        patches = self.conv_proj(images).flatten(2).transpose(1, 2)
        return torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1) + self.pos_embedding


class FirstToken(nn.Module):
    """Tokens [n, tokens, dim] to the first one [n, dim]."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the first token."""
        return tokens[:, 0]


def vit_tokens(*, channels: int, num_patches: int, patch: int, dim: int) -> nn.Module:
    """Return the entrance of ViT."""
    return VitTokens(channels, num_patches, patch, dim)


def vit_block(*, dim: int, heads: int, mlp_dim: int) -> nn.Module:
    """Return self-attention and a perceptron on [n, tokens, dim]."""
    block: nn.Module = EncoderBlock(heads, dim, mlp_dim, dropout=0.0, attention_dropout=0.0, norm_layer=_vit_norm)
    return block


def vit_pool(*, dim: int) -> nn.Module:
    """Return the last layer norm and the class token."""
    return nn.Sequential(OrderedDict(ln=_vit_norm(dim), token=FirstToken()))
