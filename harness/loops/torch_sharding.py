"""Parameters spread over ranks: what FSDP, tensor parallelism and their meshes have in common.

rank r:  all-gather a block -> forward -> free -> all-gather -> backward -> reduce-scatter -> own piece of .grad
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm

from harness.loops.torch_comm import evaluate_as_rank_0
from harness.spec import Job, Workload

FOLDER = "sharded"


@torch.no_grad()
def start_as_rank_0(model: nn.Module) -> None:
    """Give every rank rank 0's weights now, and rank 0's buffers whenever the model evaluates, as a saved one would."""
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor, 0)
    evaluate_as_rank_0(model)


def tied(model: nn.Module) -> set[nn.Parameter]:
    """Return the parameters that several modules use."""
    users = Counter(parameter for module in model.modules() for parameter in module.parameters(recurse=False))
    return {parameter for parameter, number in users.items() if number > 1}


def shard(
    model: nn.Module,
    mesh: DeviceMesh,
    *,
    reshard: bool | int | None = None,
    bf16: bool = False,
    find_unused: bool = False,
) -> nn.Module:
    """Shard every layer, and the root with what is left: tensors that several layers use must lie in one group.

    ``reshard`` is fully_shard's ``reshard_after_forward``; with ``bf16`` layers compute in bfloat16 and gradients are
    reduced in float32; with ``find_unused`` a layer that a rank uses for none of its samples counts with a gradient of
    zero.
    """
    policy = MixedPrecisionPolicy()
    if bf16:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    shared = tied(model)
    for layer in model.children():
        own = {*layer.parameters()}
        if own and not own & shared:
            fully_shard(layer, mesh=mesh, reshard_after_forward=reshard, mp_policy=policy)
    whole = replace(policy, output_dtype=torch.float32 if bf16 else None)
    fully_shard(model, mesh=mesh, reshard_after_forward=reshard, mp_policy=whole)
    assert isinstance(model, FSDPModule)
    model.set_reduce_scatter_unused_params(find_unused)
    return model


def reduced_at_last(module: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Keep a micro-batch's gradients on their ranks, unreduced and whole, until the last one of the step."""
    assert isinstance(module, FSDPModule)
    module.set_requires_gradient_sync(last)
    return nullcontext()


def whole_gradient(parameter: nn.Parameter) -> torch.Tensor | None:
    """Return the gradient gathered from all ranks."""
    gradient = parameter.grad
    return gradient.full_tensor() if isinstance(gradient, DTensor) else gradient


# -- clipping --------------------------------------------------------------------------------------------------------


def clip(parameters: Sequence[nn.Parameter], workload: Workload) -> None:
    """Clip gradients of which some lie whole on every rank and others in pieces, on one mesh or another.

    torch's own functions take one kind at a time: the norms of the kinds are joined here.
    """
    kinds = _kinds([parameter for parameter in parameters if parameter.grad is not None])
    if workload.clip_value is not None:
        for kind in kinds:
            clip_grad_value_(kind, workload.clip_value)
    if workload.clip_norm is not None:
        norms = [_whole(get_total_norm([p.grad for p in kind if p.grad is not None])) for kind in kinds]
        for kind in kinds:
            clip_grads_with_norm_(kind, workload.clip_norm, torch.stack(norms).norm())


def _kinds(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    kinds: dict[DeviceMesh | None, list[nn.Parameter]] = {}
    for parameter in parameters:
        kinds.setdefault(parameter.device_mesh if isinstance(parameter, DTensor) else None, []).append(parameter)
    return list(kinds.values())


def _whole(value: torch.Tensor) -> torch.Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


# -- checkpoints -----------------------------------------------------------------------------------------------------


def save(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path, job: Job) -> None:
    """Write a distributed checkpoint: every rank its pieces."""
    del job
    weights, state = get_state_dict(model, optimizer)
    state_dict_saver.save({"model": weights, "optimizer": state}, checkpoint_id=folder / FOLDER)


def load(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path, job: Job) -> None:
    """Go on from a distributed checkpoint, which is cut anew for this number of ranks."""
    del job
    weights, state = get_state_dict(model, optimizer)
    state_dict_loader.load({"model": weights, "optimizer": state}, checkpoint_id=folder / FOLDER)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state)
