"""A model in torchgpipe's pipeline, as its options ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchgpipe import GPipe
from torchgpipe.balance import balance_by_time

from harness.loops import torch_model
from harness.loops.pipeline_cut import given
from harness.loops.torch_costs import sample
from harness.loops.torch_settings import Autocast
from harness.spec import Job

# One pass over the layers of a small model takes less; a large one is measured once.
_MEASURING_S = 0.02


def pipeline(model: nn.Sequential, job: Job, chunks: int) -> nn.Module:
    """Return ``model`` on one device per rank, or on the CPU for all of them."""
    devices = [torch.device(job.device, i) if job.device == "cuda" else "cpu" for i in range(job.world_size)]
    dtype, options = next(model.parameters()).dtype, job.options
    counts = given(str(options["balance"])) if options["balance"] else _found(model, job, chunks)
    pipe: nn.Module = GPipe(
        model,
        counts,
        devices=devices,
        chunks=chunks,
        checkpoint=options["checkpoint"],
        deferred_batch_norm=options["deferred-batch-norm"],
    )
    # DeferredBatchNorm adds up in torch's default dtype, whatever the model's.
    pipe.to(dtype)
    torch_model.accept_masks(model)
    if options["checkpoint"] != "never":
        pipe.register_forward_pre_hook(_differentiable)
    if options["autocast"] == "inside" and job.workload.precision != "full":
        autocast = Autocast(job.workload.precision, job.device)
        for layer in model:
            layer.forward = _under(autocast, layer)
    return pipe


def _found(model: nn.Sequential, job: Job, chunks: int) -> list[int]:
    size = -(-job.workload.check.global_batch // (job.workload.accumulation * chunks))
    found: list[int] = balance_by_time(
        job.world_size, model, sample(job.workload, model, size), timeout=_MEASURING_S, device=job.device
    )
    return found


def _differentiable(_pipe: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Give masks and images a gradient, as a checkpoint of torchgpipe wants to hand one back for all it has taken."""
    if isinstance(inputs[0], torch.Tensor):
        return None
    head, *masks = inputs[0]
    return (tuple(value.detach().to(head.dtype).requires_grad_() for value in (head, *masks)),)


def _under(autocast: Autocast, layer: nn.Module) -> Callable[[Any], Any]:
    """Return a layer's forward that opens autocast itself in training, as one decorated with it would."""
    forward = layer.forward

    def call(inputs: Any) -> Any:
        if not layer.training:
            return forward(inputs)
        with autocast.forward():
            return forward(inputs)

    return call
