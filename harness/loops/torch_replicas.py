"""Data parallelism over threads of one process: torch.nn.DataParallel's algorithm without its GPUs.

    batch ──scatter──> piece 0 … piece W-1
    parameters ──replicate──> W copies (their gradients add up on the way back)
    thread r: replica r(piece r)          [one thread a replica, all under one GIL]
    outputs ──gather──> one batch of outputs

The loss is taken over the gathered outputs, as with DataParallel. Autograd runs the backward of CPU tensors in the
thread that calls it, so on a CPU only the forward is spread over threads.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn
from torch.func import functional_call


class ThreadParallel(nn.Module):
    """A module whose forward runs on ``num_replicas`` threads, each on a piece of the batch.

    Replica 0 works on the module's own buffers, so its running statistics survive; the others work on copies.
    """

    def __init__(self, module: nn.Module, num_replicas: int, num_threads: int) -> None:
        super().__init__()
        self.module = module
        # functional_call swaps tensors inside the module it calls: each thread needs a module of its own.
        self._shells = [copy.deepcopy(module) for _ in range(num_replicas)]
        self._pool = ThreadPoolExecutor(num_replicas, initializer=torch.set_num_threads, initargs=(num_threads,))

    def train(self, mode: bool = True) -> ThreadParallel:
        """Set the mode of the module and of its replicas."""
        for shell in self._shells:
            shell.train(mode)
        return super().train(mode)

    def forward(self, inputs: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Scatter, replicate, apply, gather."""
        pieces = scatter(inputs, len(self._shells))
        own = dict(self.module.named_buffers())
        calls: list[Callable[[], torch.Tensor]] = []
        for number, (shell, piece) in enumerate(zip(self._shells, pieces, strict=False)):
            state = {name: parameter.clone() for name, parameter in self.module.named_parameters()}
            state.update(own if number == 0 else {name: buffer.clone() for name, buffer in own.items()})
            calls.append(_call(shell, state, piece, grad=torch.is_grad_enabled()))
        return torch.cat([future.result() for future in [self._pool.submit(call) for call in calls]])


def scatter(inputs: torch.Tensor | tuple[torch.Tensor, ...], num_pieces: int) -> list[Any]:
    """Cut a batch as DataParallel does: torch.chunk along the first dimension, tuples piece by piece."""
    if isinstance(inputs, torch.Tensor):
        return list(inputs.chunk(num_pieces))
    return list(zip(*(tensor.chunk(num_pieces) for tensor in inputs), strict=True))


def _call(shell: nn.Module, state: dict[str, torch.Tensor], piece: Any, *, grad: bool) -> Callable[[], torch.Tensor]:
    kind = next(tensor.device.type for tensor in state.values())
    autocast, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

    def call() -> torch.Tensor:
        # Grad mode and autocast belong to the thread that set them.
        with torch.set_grad_enabled(grad), torch.autocast(kind, dtype, enabled=autocast):
            output: torch.Tensor = functional_call(shell, state, (piece,))
            return output

    return call
