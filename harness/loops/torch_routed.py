"""A layer with an expert that only some samples use, as in a mixture of experts."""

from __future__ import annotations

import torch
from torch import nn


class Routed(nn.Module):
    """One linear layer for every sample, and a second one, added, for samples whose mean is above ``threshold``.

    Where no sample of a forward goes to the expert, its parameters are no part of the graph and get no gradient.
    """

    def __init__(self, ins: int, outs: int, threshold: float) -> None:
        super().__init__()
        self.common, self.expert = nn.Linear(ins, outs), nn.Linear(ins, outs)
        self._threshold = threshold

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return [n, outs] for [n, ins]."""
        output: torch.Tensor = self.common(inputs)
        chosen = (inputs.mean(1) > self._threshold).nonzero().squeeze(1)
        if len(chosen):
            output = output.index_add(0, chosen, self.expert(inputs[chosen]).to(output.dtype))
        return output


def routed(*, ins: int, outs: int, threshold: float) -> nn.Module:
    """Return the layer."""
    return Routed(ins, outs, threshold)
