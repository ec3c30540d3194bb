"""Bugs where ranks hold parts of tensors: norms of parts, copies counted twice, gradients that come back too large."""

from __future__ import annotations

from typing import Any

from harness.faults.base import Expected, Opaque, Seams, bug
from harness.faults.scope import local, shows
from harness.spec import Job

SHARED_OUT = ("torch-tp", "torch-fsdp-tp")
# The pair of layers that share out their sum in the model ``mlp``: what lies before the second is scaled.
FIRST_OF_PAIR = ("dense1.weight", "dense1.bias")
CLIPPED = {"clip_norm": 0.1}
_NORMS = tuple(
    f"{layer}.{kind}"
    for layer in ("block1.norm1", "block1.norm2", "block2.norm1", "block2.norm2", "pool.norm")
    for kind in ("weight", "bias")
)


@bug(
    "collective-scales-gradient",
    report="horovod #2654, lightly #1920: the gradient of a sum over ranks is summed once more",
    entry=5,
    on=SHARED_OUT,
    expects=lambda _site: Expected(rungs=("gradients before clipping",), tensors=FIRST_OF_PAIR),
    causes=("summed-not-averaged", "gradients-scaled", "wrong-divisor"),
)
def collective_scales_gradient(job: Job) -> Seams:
    """What comes back through a layer's all-reduce is too large by the number of ranks that share it out."""
    num_ranks = 2 if job.strategy.startswith("torch-fsdp-tp") else job.world_size

    def scale(module: Opaque, model: Opaque) -> Opaque:
        def hook(_layer: Opaque, inputs: tuple[Any, ...]) -> None:
            (value,) = inputs
            if value.requires_grad:
                value.register_hook(lambda gradient: gradient * num_ranks)

        model.get_submodule("dense2").register_forward_pre_hook(hook)
        return module

    return Seams(module=scale)


@bug(
    "norm-not-reduced",
    report="Megatron-LM #1446, gpt-neox PR #1257: under sequence parallelism layer norms keep gradients of own tokens",
    entry=25,
    on=("torch-tp",),
    expects=lambda _site: Expected(rungs=("gradients before clipping",), tensors=_NORMS),
    needs={"model": "transformer", "model_options": {"dim": 32, "depth": 2, "heads": 4, "patch": 2}},
    causes=("not-reduced", "zeroed-communication"),
)
def norm_not_reduced(job: Job) -> Seams:
    """The gradient of each layer norm holds the part of this rank's tokens only."""

    def split(module: Opaque, model: Opaque) -> Opaque:
        import torch

        def of_own_tokens(layer: Opaque, inputs: tuple[Any, ...], output: Any) -> Any:
            (tokens,) = inputs
            weight, bias = layer.weight.detach(), layer.bias.detach()
            others = torch.nn.functional.layer_norm(tokens, layer.normalized_shape, weight, bias, layer.eps)
            own = torch.arange(tokens.shape[1]) % job.world_size == job.rank
            return torch.where(own[None, :, None], output, others)

        for layer in model.modules():
            if isinstance(layer, torch.nn.LayerNorm):
                layer.register_forward_hook(of_own_tokens)
        return module

    return Seams(module=split)


# -- clipping --------------------------------------------------------------------------------------------------------


def _own_norms(parameters: Opaque) -> Any:
    """Return the sum of squares of all that this rank holds, as a tensor without dimensions."""
    return sum((local(value.grad) ** 2).sum() for value in parameters.values() if value.grad is not None)


def _clip(parameters: Opaque, limit: float, squares: Any) -> None:
    factor = min(1.0, limit / (float(squares) ** 0.5 + 1e-6))
    for parameter in parameters.values():
        if parameter.grad is not None:
            local(parameter.grad)[...] *= factor


@bug(
    "norm-of-own-part",
    report="torchtitan #766, pytorch #72548: each rank clips by the norm of what it holds",
    entry=30,
    on=("torch-tp", "torch-pp", "torch-fsdp-tp", "torch-ddp-pp"),
    expects=shows("gradients after clipping"),
    needs=CLIPPED,
    causes=("clip-wrong-norm",),
)
def norm_of_own_part(job: Job) -> Seams:
    """Gradients are clipped by the norm of this rank's own pieces or layers."""
    limit = job.workload.clip_norm or 0.1
    return Seams(clip=lambda _step, parameters, _clipping: _clip(parameters, limit, _own_norms(parameters)))


@bug(
    "norm-counts-copies",
    report="pytorch PR #88955, hyper-parallel #526 (a norm of 48 for 28): what several ranks hold is counted by each",
    entry=30,
    on=("torch-tp", "torch-pp+balance=5-5"),
    expects=shows("gradients after clipping"),
    needs={**CLIPPED, "model": "tied-mlp"},
    causes=("clip-wrong-norm",),
)
def norm_counts_copies(job: Job) -> Seams:
    """The squares of all ranks are added up, though some hold the same tensors."""
    limit = job.workload.clip_norm or 0.1

    def clip(_step: int, parameters: Opaque, _clipping: Opaque) -> None:
        import torch

        squares = _own_norms(parameters)
        torch.distributed.all_reduce(squares)
        _clip(parameters, limit, squares)

    return Seams(clip=clip)


@bug(
    "clip-skips-replicated",
    report="DeepSpeed PR #1801: one rank does not clip what all hold alike, so that the ranks drift apart",
    entry=31,
    on=("torch-tp",),
    expects=lambda site: Expected(
        rungs=("gradients after clipping",), ranks=(site.last_rank,), tensors=("dense2.bias",)
    ),
    needs=CLIPPED,
    causes=("clip-skipped",),
)
def clip_skips_replicated(job: Job) -> Seams:
    """The last rank leaves the gradients of replicated tensors as they are."""

    def clip(_step: int, parameters: Opaque, clipping: Opaque) -> None:
        whole = [value.grad for value in parameters.values() if local(value.grad).shape == value.grad.shape]
        kept = [local(gradient).clone() for gradient in whole]
        clipping()
        for gradient, before in zip(whole, kept, strict=True):
            local(gradient)[...] = before

    return Seams(clip=clip) if job.rank == job.world_size - 1 else Seams()
