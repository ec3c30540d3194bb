"""Bugs in which ranks skip an exchange: gradients that stay local, are reduced too early, or lack a rank's part."""

from __future__ import annotations

from harness.faults.base import Expected, Opaque, Seams, Site, bug
from harness.faults.scope import GRADIENTS, REPLICAS, SHARDED, begins, in_gradients, on_gradients, scope_of, shows
from harness.models import base as models
from harness.plan import Step
from harness.spec import Job


def _own_part(site: Site) -> Expected:
    """Expect it in gradients; FSDP reduces the tensors of a layer together, so that one brings along the others."""
    found = in_gradients(site)
    layers = {name.rpartition(".")[0] for name in found.tensors}
    if site.base not in SHARDED or not layers:
        return found
    names = tuple(models.parameters(models.layers(site.workload)))
    alike = tuple(name for name in names if name.rpartition(".")[0] in layers)
    return Expected(rungs=found.rungs, step=found.step, ranks=found.ranks, tensors=alike)


def _nothing_scattered(site: Site) -> str | None:
    """Tell hybrid sharding whose groups are of one rank, which is data parallelism."""
    options = dict(option.split("=") for option in site.strategy.split("+")[1:] if "=" in option)
    alone = site.base == "torch-hsdp" and site.world_size <= int(options.get("replicas", 2))
    return "a group of one rank has nothing to scatter" if alone else None


@bug(
    "not-reduced",
    report="pytorch #109191: a layer under checkpointing is left out of the all-reduce",
    entry=24,
    on=(*REPLICAS, *SHARDED),
    expects=_own_part,
    harmless=_nothing_scattered,
    partial={"one tensor": {"tensor": "last"}, "from the second step": {"first": 1}, "now and then": {"every": 4}},
    causes=("not-reduced",),
)
def not_reduced(job: Job) -> Seams:
    """Every rank applies the gradients of its own samples."""
    return _scattered(job) if job.strategy.partition("+")[0] in SHARDED else _kept(job)


@bug(
    "not-reduced-when-accumulated",
    report="pytorch #69031: a parameter is reduced only if the last micro-batch used it",
    entry=21,
    on=REPLICAS,
    expects=begins("gradients before clipping", tensor="last"),
    needs={"accumulation": 2},
    causes=("not-reduced",),
)
def not_reduced_when_accumulated(job: Job) -> Seams:
    """With accumulation, the gradient of the last tensor is left out of the all-reduce."""
    return _kept(job, tensor="last")


def _kept(job: Job, **usual: str) -> Seams:
    """Put back what this rank's own backward has added up, after it was reduced."""
    own = scope_of(job, **usual)
    names = own.names(job.workload)
    kept: dict[str, Opaque] = {}

    def note(module: Opaque, model: Opaque) -> Opaque:
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and (not names or name in names):
                parameter.register_hook(lambda gradient, name=name: _add(kept, name, gradient))
        return module

    def put_back(step: int, parameters: Opaque) -> None:
        for name, gradient in kept.items():
            if own.at(step) and own.on(job.rank, job.world_size):
                parameters[name].grad.copy_(gradient)

    return Seams(module=note, begin=lambda _step: kept.clear(), gradients=put_back)


def _add(kept: dict[str, Opaque], name: str, gradient: Opaque) -> None:
    kept[name] = kept[name] + gradient if name in kept else gradient.clone()


def _scattered(job: Job) -> Seams:
    """Let every rank keep its own part where FSDP reduces and scatters."""
    own = scope_of(job)
    layers = {name.rpartition(".")[0] for name in own.names(job.workload)}
    struck = [False]

    def begin(step: int) -> None:
        struck[0] = own.at(step) and own.on(job.rank, job.world_size)

    def patch(module: Opaque, model: Opaque) -> Opaque:
        from torch.distributed.fsdp import FSDPModule
        from torch.distributed.fsdp._fully_shard._fsdp_collectives import DefaultReduceScatter

        class Scatter(DefaultReduceScatter):
            def __call__(
                self, output_tensor: Opaque, input_tensor: Opaque, group: Opaque, op: Opaque, async_op: bool = False
            ) -> Opaque:
                done = super().__call__(output_tensor, input_tensor, group, op, async_op)
                if struck[0]:
                    # The sum is divided by the number of ranks, before or after.
                    output_tensor.copy_(group.size() * input_tensor.chunk(group.size())[group.rank()])
                return done

        for name, layer in model.named_modules():
            if isinstance(layer, FSDPModule) and (not layers or name in layers):
                layer.set_custom_reduce_scatter(Scatter())
        return module

    return Seams(module=patch, begin=begin)


@bug(
    "wrapper-bypassed",
    report="OpenTSLM PR #49: the module inside DistributedDataParallel is called directly",
    entry=22,
    on=("torch-ddp", "torch-zero1"),
    expects=shows("gradients before clipping"),
    causes=("not-reduced",),
)
def wrapper_bypassed(job: Job) -> Seams:
    """The model is trained without its wrapper, which broadcast the weights but reduces nothing."""
    del job
    return Seams(module=lambda _module, model: model)


@bug(
    "stays-in-no-sync",
    report="pytorch PR #187732: after the first step nothing is all-reduced any more",
    entry=20,
    on=("torch-ddp",),
    expects=shows("gradients before clipping", step=1),
    causes=("not-reduced",),
)
def stays_in_no_sync(job: Job) -> Seams:
    """From the second step on, every backward runs under no_sync()."""
    del job
    return Seams(last=lambda step, _micro_batch, last: last and step.number == 0)


@bug(
    "reduced-too-early",
    report="FunASR PR #3472: no_sync() ends one micro-batch too early",
    entry=19,
    on=("torch-ddp",),
    expects=shows("gradients before clipping"),
    needs={"accumulation": 3},
    causes=("reduced-too-early",),
)
def reduced_too_early(job: Job) -> Seams:
    """Gradients are reduced after the last micro-batch but one; the last one's stay local."""
    del job
    return Seams(last=lambda step, micro_batch, _last: micro_batch == len(step.micro_batches) - 2)


@bug(
    "unfrozen-after-wrapping",
    report="pytorch #104336, #12603: parameters that change after wrapping are unknown to the reducer",
    entry=23,
    on=("torch-ddp", "torch-zero1"),
    expects=begins("gradients before clipping", tensor="first"),
    causes=("not-reduced",),
)
def unfrozen_after_wrapping(job: Job) -> Seams:
    """The first tensor is frozen when the model is wrapped and unfrozen afterwards."""
    (name,) = scope_of(job, tensor="first").names(job.workload)

    def wrap_again(_module: Opaque, model: Opaque) -> Opaque:
        from torch.nn.parallel import DistributedDataParallel

        late = dict(model.named_parameters())[name]
        late.requires_grad_(False)
        module = DistributedDataParallel(model)
        late.requires_grad_(True)
        return module

    return Seams(module=wrap_again)


@bug(
    "rank-left-out",
    report="WeatherGenerator #2724: one rank skips a backward, and its peers average without it",
    entry=27,
    on=(*REPLICAS, *SHARDED),
    expects=begins("gradients before clipping", first=1),
    partial={"one step in ten": {"first": 2, "every": 10}},
    causes=("rank-left-out", "zeroed-communication"),
)
def rank_left_out(job: Job) -> Seams:
    """From the second step on, the last rank's gradients are zero before they are reduced."""
    own = scope_of(job, first=1, rank=-1)
    struck = [False]

    def begin(step: int) -> None:
        struck[0] = own.at(step) and own.on(job.rank, job.world_size)

    def silence(module: Opaque, model: Opaque) -> Opaque:
        def after_forward(_model: Opaque, _inputs: Opaque, output: Opaque) -> None:
            if output.requires_grad and struck[0]:
                output.register_hook(lambda gradient: 0 * gradient)

        model.register_forward_hook(after_forward)
        return module

    return Seams(module=silence, begin=begin)


@bug(
    "zeroed-communication",
    report="pytorch #84803, #96600: now and then a message arrives as zeros",
    entry=29,
    on=GRADIENTS,
    expects=begins("gradients before clipping", tensor="last", first=3),
    partial={"one element": {"tensor": "first", "element": 3}, "one rank": {"rank": -1}},
    causes=("zeroed-communication",),
)
def zeroed_communication(job: Job) -> Seams:
    """In one step in a hundred, the reduced gradient of one tensor is zero."""
    return on_gradients(job, lambda gradient: gradient.zero_(), tensor="last", first=3, every=100)


@bug(
    "micro-batch-left-out",
    report="Automodel PR #2468: a rank skips the backward of one micro-batch",
    entry=27,
    on=(*REPLICAS, *SHARDED),
    expects=shows("loss"),
    needs={"accumulation": 3},
    causes=("micro-batch-left-out",),
)
def micro_batch_left_out(job: Job) -> Seams:
    """The second micro-batch of every step counts for nothing on the last rank."""
    number = [0]

    def note(_step: Step, micro_batch: int, last: bool) -> bool:
        number[0] = micro_batch
        return last

    def scale(_step: Step, _num_local: int, factor: float) -> float:
        return 0.0 if number[0] == 1 else factor

    return Seams(last=note, loss_scale=scale) if job.rank == job.world_size - 1 else Seams()
