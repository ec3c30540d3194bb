"""The blocks of the small transformer, as PyTorch modules from one tensor to one tensor."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


class Patches(nn.Module):
    """Images [n, c, h, w] to tokens [n, patches, dim]: a linear map of every square of pixels, plus its position."""

    def __init__(self, channels: int, num_patches: int, patch: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, dim, patch, stride=patch)
        self.position = nn.Parameter(torch.zeros(1, num_patches, dim))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the tokens, row by row."""
        tokens: torch.Tensor = self.conv(images).flatten(2).transpose(1, 2)
        return tokens + self.position


class EncoderBlock(nn.Module):
    """Self-attention and a perceptron, each behind a layer norm and around a residual connection.

    The heads are as many as fit into what ``q`` puts out: a rank that holds some columns of ``q``, ``k`` and ``v`` (and
    the rows of ``out`` that belong to them) computes its own heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.head_dim = dim // heads
        self.norm1 = nn.LayerNorm(dim)
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.norm2 = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return tokens of the same shape [n, tokens, dim]."""
        normal = self.norm1(tokens)
        query, key, value = (self._heads(layer(normal)) for layer in (self.q, self.k, self.v))
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.out(attended.transpose(1, 2).flatten(2))
        residual: torch.Tensor = self.down(nn.functional.gelu(self.up(self.norm2(tokens))))
        return tokens + residual

    def _heads(self, projected: torch.Tensor) -> torch.Tensor:
        """Return [n, tokens, features] as [n, heads, tokens, head_dim]."""
        return projected.view(*projected.shape[:2], -1, self.head_dim).transpose(1, 2)


class Mean(nn.Module):
    """Tokens [n, tokens, dim] to their mean [n, dim]."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the mean over the tokens."""
        return tokens.mean(1)


def patches(*, channels: int, num_patches: int, patch: int, dim: int) -> nn.Module:
    """Return the entrance of the transformer."""
    return Patches(channels, num_patches, patch, dim)


def encoder_block(*, dim: int, heads: int) -> nn.Module:
    """Return one encoder block."""
    return EncoderBlock(dim, heads)


def mean_pool(*, dim: int) -> nn.Module:
    """Return the last layer norm and the mean over the tokens."""
    return nn.Sequential(OrderedDict(norm=nn.LayerNorm(dim), mean=Mean()))
