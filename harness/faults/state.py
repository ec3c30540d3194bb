"""Bugs in what is kept: checkpoints, moments, counts of steps, running statistics, parameters nobody moves."""

from __future__ import annotations

from harness.faults.base import Expected, Opaque, Seams, Site, bug
from harness.faults.scope import GRADIENTS, REPLICAS, SHARDED, begins, local, scope_of, shows
from harness.faults.update import has_state, state_of
from harness.models import base as models
from harness.record import Rung
from harness.spec import Check, Job, Optimizer

# After an epoch and a step, so that something has moved even if the first epoch has the learning rate 0.
RESUMED_AT = 4
RESUMED = {"check": Check(resume_at=RESUMED_AT)}


@bug(
    "state-not-broadcast",
    report="horovod #526: after loading, only rank 0 has the optimizer's state",
    entry=18,
    on=("torch-ddp", "horovod-torch", "torch-fsdp", "torch-tp", "torch-pp"),
    expects=shows("optimizer state", step=RESUMED_AT, last_rank=True),
    needs=RESUMED,
    causes=("optimizer-state-lost", "optimizer-state-differs"),
)
def state_not_broadcast(job: Job) -> Seams:
    """The last rank goes on from a checkpoint without the optimizer's state."""
    return Seams(loaded=_forget) if job.rank == job.world_size - 1 else Seams()


@bug(
    "moments-not-restored",
    report="KempnerForge PR #115: a checkpoint is resumed without the optimizer's moments",
    entry=39,
    on=GRADIENTS,
    expects=shows("optimizer state", step=RESUMED_AT),
    needs=RESUMED,
    causes=("optimizer-state-lost",),
)
def moments_not_restored(job: Job) -> Seams:
    """All ranks go on from a checkpoint without the optimizer's state."""
    del job
    return Seams(loaded=_forget)


def _forget(_model: Opaque, optimizer: Opaque) -> None:
    for state in state_of(optimizer).values():
        for value in state.values():
            local(value).zero_()


@bug(
    "weights-not-restored",
    report="Fast-LLM #436, Megatron PR #6920: the model that is resumed is another one",
    entry=39,
    on=(*REPLICAS, *SHARDED, "torch-tp", "torch-pp"),
    expects=begins("parameters", first=RESUMED_AT - 1, tensor="last"),
    needs=RESUMED,
    causes=("weights-not-restored",),
)
def weights_not_restored(job: Job) -> Seams:
    """After a checkpoint was loaded, the last tensor differs by a hundredth."""
    own = scope_of(job, tensor="last")

    def change(model: Opaque, _optimizer: Opaque) -> None:
        for name, parameter in model.named_parameters():
            if name in own.names(job.workload):
                local(parameter.detach()).mul_(1.01)

    return Seams(loaded=change)


@bug(
    "step-counted-twice",
    report="Megatron PR #5976: a synthetic first step counts, and Adam corrects its bias too little",
    entry=41,
    on=GRADIENTS,
    expects=begins("optimizer state"),
    needs={"optimizer": Optimizer(name="adamw", learning_rate=1e-3, weight_decay=1e-2)},
    causes=("adam-step-count",),
)
def step_counted_twice(job: Job) -> Seams:
    """Adam's count of steps is one ahead after the first."""
    del job

    def count(step: int, _model: Opaque, optimizer: Opaque) -> None:
        if step == 0:
            for state in state_of(optimizer).values():
                state["step"] += 1

    return Seams(updated=count)


@bug(
    "step-skipped",
    report="WeatherGenerator #2724, fairscale #180: one rank skips an update that the others make",
    entry=27,
    on=GRADIENTS,
    expects=begins("optimizer state", first=1, rank=-1),
    partial={"one step in ten": {"first": 2, "every": 10}},
    causes=("step-skipped",),
)
def step_skipped(job: Job) -> Seams:
    """The last rank skips the second update, as if it alone had seen an overflow."""
    own = scope_of(job, first=1, every=100, rank=-1)

    def drop(step: int, optimizer: Opaque) -> None:
        if own.at(step):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None

    return Seams(before_update=drop) if own.on(job.rank, job.world_size) else Seams()


@bug(
    "overflow-not-shared",
    report="pytorch PR #115710, fairscale #180: a rank whose own pieces overflow skips the update, and no other",
    entry=32,
    on=("torch-ddp", "torch-zero1", "torch-fsdp"),
    expects=begins("optimizer state", first=1, rank=-1),
    # Few steps, large batches: rounding to half a precision soon makes another training of it.
    needs={
        "precision": "fp16",
        "check": Check(num_samples=150, global_batch=64, num_steps=5, dtype="float32"),
    },
    causes=("step-skipped",),
)
def overflow_not_shared(job: Job) -> Seams:
    """Under float16 the last rank's scaler skips the second update, and tells nobody."""
    return step_skipped(job)


def _first_kept(site: Site) -> Expected:
    rung: Rung = "optimizer state" if has_state(site.workload) else "parameters"
    return begins(rung, tensor="last")(site)


@bug(
    "optimizer-of-a-copy",
    report="accelerate #3256, pytorch #149205: the optimizer was built before the model was wrapped",
    entry=40,
    on=("torch-ddp", "torch-fsdp", "torch-hsdp", "torch-tp"),
    expects=_first_kept,
    partial={"first tensor": {"tensor": "first"}},
    causes=("nothing-updated",),
)
def optimizer_of_a_copy(job: Job) -> Seams:
    """The optimizer holds a copy of the last tensor, so that nothing moves the model's."""
    (name,) = scope_of(job, tensor="last").names(job.workload)
    model: list[Opaque] = []

    def note(module: Opaque, own: Opaque) -> Opaque:
        model.append(own)
        return module

    def copy(optimizer: Opaque) -> None:
        missed = dict(model[0].named_parameters())[name]
        for group in optimizer.param_groups:
            group["params"] = [
                parameter.detach().clone() if parameter is missed else parameter for parameter in group["params"]
            ]

    def clear(_step: int) -> None:
        # zero_grad() does not know it either; what it piles up is another bug.
        dict(model[0].named_parameters())[name].grad = None

    return Seams(module=note, optimizer=copy, begin=clear)


def _frozen(site: Site) -> Expected:
    names = models.parameters(models.layers(site.workload))
    frozen = tuple(name for name in names if name.rpartition(".")[0] in site.workload.frozen)
    return Expected(rungs=("gradients before clipping",), tensors=frozen)


@bug(
    "frozen-trained",
    report="torchtitan #3885: wrapping makes frozen parameters trainable",
    entry=42,
    on=(*REPLICAS, *SHARDED, "torch-tp"),
    expects=_frozen,
    # An optimizer with momentum keeps some for them, too, which is refused as a state that no reference has.
    needs={"frozen": ("dense1",), "optimizer": Optimizer(name="sgd", momentum=0.0, weight_decay=1e-2)},
    causes=("frozen-trained",),
)
def frozen_trained(job: Job) -> Seams:
    """Frozen parameters ask for gradients once the model is wrapped, and the optimizer takes them on."""

    def unfreeze(module: Opaque, model: Opaque) -> Opaque:
        for name, parameter in model.named_parameters():
            if name.rpartition(".")[0] in job.workload.frozen:
                parameter.requires_grad_(True)
        return module

    return Seams(module=unfreeze)


@bug(
    "buffers-averaged",
    report="fairscale #68, keras PR #22638: running statistics are averaged over ranks",
    entry=35,
    on=("torch-ddp",),
    expects=shows("buffers"),
    needs={"model": "mnist-cnn"},
    causes=("buffers-wrong",),
)
def buffers_averaged(job: Job) -> Seams:
    """After each step, running statistics become the mean of all ranks'."""

    def average(_step: int, model: Opaque, _optimizer: Opaque) -> None:
        import torch

        for buffer in model.buffers():
            if buffer.is_floating_point():
                torch.distributed.all_reduce(buffer)
                buffer.div_(job.world_size)

    return Seams(updated=average)


@bug(
    "statistics-updated-twice",
    report="pytorch #96136: recomputation runs batch norms a second time, and they count it",
    entry=36,
    on=(*REPLICAS, *SHARDED, "torchgpipe"),
    expects=shows("buffers"),
    needs={"model": "mnist-cnn"},
    causes=("buffers-wrong",),
)
def statistics_updated_twice(job: Job) -> Seams:
    """Every forward updates running statistics twice."""
    del job

    def recompute(module: Opaque, model: Opaque) -> Opaque:
        from torch.nn.modules.batchnorm import _BatchNorm

        for layer in model.modules():
            if isinstance(layer, _BatchNorm):
                layer.register_forward_hook(_again)
        return module

    return Seams(module=recompute)


def _again(norm: Opaque, inputs: Opaque, _output: Opaque) -> None:
    import torch

    if norm.training:
        with torch.no_grad():
            torch.nn.functional.batch_norm(
                inputs[0], norm.running_mean, norm.running_var, training=True, momentum=norm.momentum
            )
