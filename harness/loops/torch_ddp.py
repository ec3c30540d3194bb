"""DistributedDataParallel as the options of its strategy ask for it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from harness.loops import torch_model
from harness.spec import Job, Setting


def wrap(model: nn.Sequential, job: Job) -> nn.Module:
    """Return the model inside DistributedDataParallel."""
    chosen = job.options
    if chosen["sync-batch-norm"]:
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        model = torch_model.accept_masks(converted)
    module = DistributedDataParallel(
        model,
        bucket_cap_mb=chosen["bucket-mb"],
        gradient_as_bucket_view=chosen["gradient-as-bucket-view"],
        static_graph=chosen["static-graph"],
        find_unused_parameters=chosen["find-unused"],
        broadcast_buffers=chosen["broadcast-buffers"],
    )
    if chosen["hook"] != "none":
        _compress(module, str(chosen["hook"]), rank=chosen["powersgd-rank"])
    return module


def reduce_last(module: Any, last: bool) -> AbstractContextManager[None]:
    """Return the context of a micro-batch: only the last one's backward reduces what all have added up."""
    context: AbstractContextManager[None] = nullcontext() if last else module.no_sync()
    return context


def _compress(module: DistributedDataParallel, hook: str, *, rank: Setting) -> None:
    """Register one of torch's communication hooks; PowerSGD begins with the second step, as early as it may."""
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

    if hook == "powersgd":
        state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=rank, start_powerSGD_iter=2)
        module.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    else:
        compress = {"fp16": default_hooks.fp16_compress_hook, "bf16": default_hooks.bf16_compress_hook}[hook]
        module.register_comm_hook(None, compress)
