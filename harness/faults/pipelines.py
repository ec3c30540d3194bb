"""Bugs that only stages and their micro-batches allow: gradients scaled twice, tied copies left apart, stale inputs."""

from __future__ import annotations

from typing import Any

from harness.faults.base import Expected, Opaque, Seams, Site, bug
from harness.faults.scope import first_step, shows
from harness.plan import Step
from harness.spec import Job, Workload

# Cut so that the two layers of the model with one tensor lie in different stages.
APART = "torch-pp+balance=5-5"
PIPELINES = ("torch-pp", "torch-ddp-pp")
TIED = ("dense2.weight", "dense2.bias")


def _num_chunks(job: Job) -> int:
    """Return the number of micro-batches of a pipeline, as its strategy counts them."""
    stages = int(job.options.get("stages", 0)) or (2 if job.strategy.startswith("torch-ddp-pp") else job.world_size)
    return int(job.options["chunks"]) or stages


@bug(
    "schedule-divides-again",
    report="AReaL PR #1273: the loss is a mean over micro-batches, and the schedule divides by their number again",
    entry=12,
    on=PIPELINES,
    expects=shows("gradients before clipping"),
    causes=("divided-by-micro-batches", "divided-twice", "wrong-divisor"),
)
def schedule_divides_again(job: Job) -> Seams:
    """The schedule divides the gradients of a sum by the number of micro-batches, as it does unless it is told."""
    del job

    def scale(module: Opaque, _model: Opaque) -> Opaque:
        from torch.distributed.pipelining.schedules import _PipelineSchedule

        library: Any = _PipelineSchedule
        build = library.__init__

        def scaling(schedule: Any, *args: Any, **settings: Any) -> None:
            build(schedule, *args, **settings | {"scale_grads": True})

        # For as long as this rank lives.
        library.__init__ = scaling
        return module

    return Seams(module=scale)


@bug(
    "accumulated-rescaled",
    report="torchtitan #1733: every schedule step rescales all that has been accumulated before",
    entry=11,
    on=(*PIPELINES, "torchgpipe"),
    expects=shows("gradients before clipping"),
    needs={"accumulation": 2},
    causes=("accumulation-rescaled",),
)
def accumulated_rescaled(job: Job) -> Seams:
    """What earlier micro-batches have left in the gradients is divided by the number of stages once more."""
    models: list[Opaque] = []

    def keep(module: Opaque, model: Opaque) -> Opaque:
        models.append(model)
        return module

    def rescale(_step: Step, micro_batch: int, last: bool) -> bool:
        gradients = [parameter.grad for parameter in models[0].parameters() if parameter.grad is not None]
        for gradient in gradients if micro_batch else ():
            gradient.div_(_num_chunks(job))
        return last

    return Seams(module=keep, last=rescale)


@bug(
    "tied-not-added",
    report="Megatron-LM #299, piper #13, Megatron-LM PR #6500: each stage applies the gradient of its own copy",
    entry=26,
    on=(APART,),
    expects=lambda _site: Expected(rungs=("gradients before clipping",), tensors=TIED),
    needs={"model": "tied-mlp"},
    causes=("not-reduced",),
)
def tied_not_added(job: Job) -> Seams:
    """The gradients of a tensor that two stages use are not added up over them."""
    del job
    return Seams(synchronise=lambda _step, _reduce: None)


@bug(
    "trained-padding",
    report="rf-detr #1507: samples that only fill up a batch are counted",
    entry=44,
    on=PIPELINES,
    expects=lambda site: Expected(rungs=("loss",), step=_first_padded(site) or 0),
    harmless=lambda site: "nothing is padded" if _first_padded(site) is None else None,
    causes=("padding-trained",),
)
def trained_padding(job: Job) -> Seams:
    """The samples that make micro-batches equal have a label, and so a loss."""
    del job

    def label(module: Opaque, _model: Opaque) -> Opaque:
        import torch

        library: Any = torch.nn.functional
        given = library.cross_entropy

        def counting(logits: Any, labels: Any, **settings: Any) -> Any:
            return given(logits, labels.clamp(min=0), **settings)

        # For as long as this rank lives.
        library.cross_entropy = counting
        return module

    return Seams(module=label)


def _first_padded(site: Site) -> int | None:
    """Return the first step in which a pipeline's share is no multiple of its two micro-batches."""
    replicas = site.world_size // 2 if site.base == "torch-ddp-pp" else 1
    pieces = site.world_size if replicas > 1 else site.world_size * replicas
    return first_step(site.workload, lambda step: any(len(batch) % pieces for batch in step.micro_batches))


@bug(
    "input-not-awaited",
    report="torchgpipe tests/test_bugs.py, test_tuple_wait: a stage goes on before its input has been copied",
    entry=28,
    on=(*PIPELINES, "torchgpipe"),
    expects=shows("loss"),
    causes=("stale-activations",),
)
def input_not_awaited(job: Job) -> Seams:
    """The last layer reads its input when only half of the samples have arrived."""
    del job

    def read_early(module: Opaque, model: Opaque) -> Opaque:
        layer: Any = dict(model.named_children()).get("dense3")

        def halve(_layer: Opaque, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
            (values,) = inputs
            arrived = values.new_zeros(len(values), 1)
            arrived[: len(values) // 2] = 1
            return (values * arrived,) if layer.training else None

        if layer is not None:
            layer.register_forward_pre_hook(halve)
        return module

    return Seams(module=read_early)


def _dropping(workload: Workload) -> str | None:
    return None if workload.dropout else "nothing is dropped"


@bug(
    "mask-of-recomputation",
    report="OLMo-core PR #828, pytorch #190758: the forward that runs again in the backward draws another mask",
    entry=38,
    on=("torchgpipe+checkpoint=always",),
    expects=shows("gradients before clipping"),
    needs={"dropout": 0.25},
    harmless=lambda site: _dropping(site.workload),
    causes=("dropout-masks",),
)
def mask_of_recomputation(job: Job) -> Seams:
    """Dropout in a checkpointed stage keeps other activations when its forward runs again."""
    del job

    def redraw(module: Opaque, model: Opaque) -> Opaque:
        import torchgpipe

        def turn(_layer: Opaque, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            (travelling,) = inputs
            if not torchgpipe.is_recomputing():
                return inputs
            head, mask, *ahead = travelling
            return ((head, mask.flip(-1), *ahead),)

        for layer in model.modules():
            if type(layer).__name__ == "MaskedDropout":
                layer.register_forward_pre_hook(turn)
        return module

    return Seams(module=redraw)
