"""Where a PyTorch training is delayed when its schedule is shaken.

forward of a module | gradient of a parameter | collective, also from C++ | copy | optimizer step
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from harness.fuzz import Shaker
from harness.spec import Job

COLLECTIVES = ("c10d", "_c10d_functional")


class _Delays(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Delays collectives and copies before they are dispatched: DistributedDataParallel's, which C++ calls, as well."""

    def __init__(self, shaker: Shaker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shaker = shaker

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.namespace in COLLECTIVES or func is torch.ops.aten.copy_.default:
            self._shaker.pause(func.name())
        return func(*args, **(kwargs or {}))


@contextmanager
def shaken(job: Job) -> Iterator[None]:
    """Delay whatever happens inside, where the job has a seed for it."""
    shaker = Shaker(job)
    if not shaker.on:
        yield
        return
    forward = register_module_forward_pre_hook(lambda _module, _inputs: shaker.pause("forward"))
    step = register_optimizer_step_pre_hook(lambda _optimizer, _args, _kwargs: shaker.pause("optimizer step"))
    with _Delays(shaker):
        yield
    forward.remove()
    step.remove()


def delay_gradients(model: nn.Module, job: Job) -> None:
    """Delay each gradient, too, before a library hears of it; one that makes parameters of its own leaves them out."""
    shaker = Shaker(job)
    for parameter in model.parameters() if shaker.on else ():
        if parameter.requires_grad:
            parameter.register_hook(lambda _gradient: shaker.pause("gradient"))  # type: ignore[no-untyped-call]
