"""Running statistics of batch norms in a serial run that normalises groups of samples one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class KeptBuffers:
    """Gives a model its buffers back after a shard whose running statistics would be thrown away."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def __enter__(self) -> None:
        self._kept = [buffer.clone() for buffer in self._model.buffers()]

    def __exit__(self, *_error: object) -> None:
        for buffer, kept in zip(self._model.buffers(), self._kept, strict=True):
            buffer.copy_(kept)


@contextmanager
def updated_once(model: nn.Module) -> Iterator[None]:
    """Update running statistics on leaving, from all the samples that batch norms have seen meanwhile.

    torchgpipe's DeferredBatchNorm does so. Other than torch's own batch norm, it keeps the biased variance.
    """
    seen: dict[_BatchNorm, list[torch.Tensor]] = {}

    def note(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        head = inputs[0][0] if isinstance(inputs[0], tuple) else inputs[0]
        values = head.detach().transpose(0, 1).flatten(1)
        new = [values.sum(1), (values**2).sum(1), torch.tensor(values.shape[1])]
        seen[norm] = [old + more for old, more in zip(seen[norm], new, strict=True)] if norm in seen else new

    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    yield
    for hook in hooks:
        hook.remove()
    for norm, (total, squares, count) in seen.items():
        mean = total / count
        variance = squares / count - mean**2
        for running, value in ((norm.running_mean, mean), (norm.running_var, variance)):
            assert running is not None
            assert norm.momentum is not None
            running.mul_(1 - norm.momentum).add_(value, alpha=norm.momentum)
