"""Pipelines of torch.distributed.pipelining: this rank's stages of a model, and a schedule that moves micro-batches.

    GPipe, two stages, three micro-batches:      stage 0:  F0 F1 F2 .. .. B0 B1 B2
                                                 stage 1:  .. F0 F1 F2 B0 B1 B2
    1F1B:                                        stage 0:  F0 F1 .. B0 F2 B1 .. B2
                                                 stage 1:  .. F0 B0 F1 B1 F2 B2

Stages receive every micro-batch into a buffer of the first one's shape: a batch that cannot be cut into equal ones is
padded with samples that have no label, and so no loss.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as load_checkpoint
from torch.distributed.checkpoint.state_dict_saver import save as save_checkpoint
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe, ScheduleInterleaved1F1B
from torch.distributed.pipelining.schedules import _PipelineSchedule
from torch.distributed.pipelining.stage import PipelineStageInfo
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm

from harness.loops.pipeline_cut import cut, given
from harness.loops.stopwatch import Mark, unmarked
from harness.loops.torch_comm import Communicator
from harness.loops.torch_costs import measured_costs, sample
from harness.loops.torch_parallelism import Inputs, MicroBatch, Parallelism
from harness.measure.pipelines import rank_of_pipeline
from harness.record import Rung
from harness.spec import Job, Workload

# What a rank shows of its own layers only.
PARTS: tuple[Rung, ...] = (
    "gradients before clipping",
    "gradients after clipping",
    "optimizer state",
    "parameters",
    "buffers at next forward",
    "buffers",
)
_SINGLE = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}
# cross_entropy leaves samples of this label out.
_NO_LABEL = -100
_FOLDER = "stages"
# By parameter rather than by group: a stage's groups are not the next one's.
_BY_NAME = StateDictOptions(flatten_optimizer_state_dict=True)


class Held(nn.Module):
    """The layers of a rank's stages, which goes through those of one stage at a time."""

    def __init__(self, layers: Iterable[tuple[str, nn.Module]]) -> None:
        super().__init__()
        for name, layer in layers:
            self.add_module(name, layer)

    def forward(self, inputs: Inputs, own: slice) -> Any:
        """Return what the layers ``own`` make of ``inputs``."""
        for layer in list(self.children())[own]:
            inputs = layer(inputs)
        return inputs


class Stage(nn.Module):
    """What a schedule calls: from tensors to a tensor or a tuple of tensors, under the batch's autocast."""

    def __init__(self, held: Held, own: slice, context: Callable[[], AbstractContextManager[object]]) -> None:
        super().__init__()
        self.held, self._own, self._context = held, own, context

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return the stage's output, contiguous: the library sends it as it lies, which gloo refuses otherwise."""
        with self._context():
            output = self.held(inputs if len(inputs) > 1 else inputs[0], self._own)
        return tuple(map(torch.Tensor.contiguous, output)) if isinstance(output, tuple) else output.contiguous()


class WatchedStage(PipelineStage):
    """A stage that says when its own work begins and ends; what lies between is waiting for other stages."""

    mark: Mark = staticmethod(unmarked)

    def forward_one_chunk(self, *arguments: Any, **settings: Any) -> Any:
        """Go forward through the stage's layers."""
        self.mark("communication")
        output = super().forward_one_chunk(*arguments, **settings)
        self.mark("forward")
        return output

    def backward_one_chunk(self, *arguments: Any, **settings: Any) -> Any:
        """Go backward through them."""
        self.mark("communication")
        gradients = super().backward_one_chunk(*arguments, **settings)
        self.mark("backward")
        return gradients


class Pipeline:
    """A rank's place in a pipeline of the ranks in ``group``; its methods are what ``Parallelism`` asks for.

    ``schedule`` is ``gpipe``, ``1f1b`` or ``interleaved``, of which every rank has two stages; ``balance`` may give
    the layers of each stage. ``replicas`` pipelines train side by side, their stages wrapped by ``wrap_stage``.
    """

    def __init__(
        self,
        job: Job,
        group: dist.ProcessGroup,
        *,
        schedule: str,
        chunks: int,
        balance: str,
        replicas: int = 1,
        wrap_stage: Callable[[nn.Module], nn.Module] = lambda stage: stage,
    ) -> None:
        self._job, self._group, self._chunks, self._balance = job, group, chunks, balance
        self._kind, self._wrap_stage = schedule, wrap_stage
        self._rank, self._num_ranks = dist.get_rank(group), dist.get_world_size(group)
        self._num_stages = self._num_ranks * (2 if schedule == "interleaved" else 1)
        workload = job.workload
        batch, dtype = workload.global_batch, workload.dtype
        if job.purpose == "parity":
            batch, dtype = workload.check.global_batch, workload.check.dtype
        # What every rank makes of its own numbers when it tells the others.
        self._number = torch.zeros((), dtype=getattr(torch, dtype), device=job.device)
        self._size = -(-batch // (workload.accumulation * replicas))
        self._context: Callable[[], AbstractContextManager[object]] = nullcontext
        self._losses: list[torch.Tensor] = []
        self._schedules: dict[int, _PipelineSchedule] = {}
        self._stages: list[WatchedStage] = []
        # Parameters that other ranks hold, too, each with the ranks that do and whether this one counts it.
        self._shared: list[tuple[nn.Parameter, dist.ProcessGroup, bool]] = []

    def parallelism(
        self, comm: Communicator, *, tells_samples: bool, share: tuple[int, int] = (0, 1), starts_equal: bool = True
    ) -> Parallelism:
        """Return what the loop asks for."""
        return Parallelism(
            hold=self.hold,
            wrap=self.wrap,
            comm=comm,
            share=share,
            backward=self.backward,
            synchronise=self.synchronise,
            clip=self.clip,
            predict=self.predict,
            save=save,
            load=load,
            parts=PARTS,
            tells_samples=tells_samples,
            starts_equal=starts_equal,
            pipeline=partial(
                rank_of_pipeline,
                num_micro_batches=self._chunks,
                num_ranks=self._num_ranks,
                num_stages_each=self._num_stages // self._num_ranks,
            ),
        )

    # -- the stages --------------------------------------------------------------------------------------------------

    def hold(self, model: nn.Sequential) -> Held:
        """Return this rank's layers under the names that their parameters have in the whole model."""
        counts = given(self._balance) if self._balance else self._found(model)
        ends = list(itertools.accumulate(counts))
        stages = [list(model.named_children())[end - count : end] for end, count in zip(ends, counts, strict=True)]
        numbers = range(self._rank, self._num_stages, self._num_ranks)
        self._share_tied(model, stages)
        held = Held(_under_first_names(model, [pair for i in numbers for pair in stages[i]]))
        ends = list(itertools.accumulate((counts[i] for i in numbers), initial=0))
        self._own = dict(zip(numbers, itertools.starmap(slice, itertools.pairwise(ends)), strict=True))
        return held

    def wrap(self, held: Held) -> Held:
        """Make a module of every stage."""
        self._modules = {n: self._wrap_stage(Stage(held, own, self._opened)) for n, own in self._own.items()}
        return held

    def schedule(self, size: int) -> _PipelineSchedule:
        """Return the schedule for batches of ``size`` samples: its buffers have their shape."""
        if size not in self._schedules:
            self._schedules[size] = self._build()
        return self._schedules[size]

    def _build(self) -> _PipelineSchedule:
        stages: list[WatchedStage] = []
        for number, module in self._modules.items():
            device = torch.device(self._job.device)
            stages.append(WatchedStage(module, number, self._num_stages, device, group=self._group))
            if isinstance(module, DistributedDataParallel):
                stages[-1].register_forward_context(_unreduced(module))
        self._stages += stages
        # The loss sums over samples: nothing is left to be divided by the number of micro-batches.
        if self._kind == "interleaved":
            return ScheduleInterleaved1F1B([*stages], self._chunks, loss_fn=self._loss, scale_grads=False)
        return _SINGLE[self._kind](stages[0], self._chunks, loss_fn=self._loss, scale_grads=False)

    def _equal(self, size: int) -> int:
        """Return the size to which a batch is padded, so that micro-batches are equal."""
        return self._chunks * max(1, -(-size // self._chunks))

    def _found(self, model: nn.Sequential) -> list[int]:
        """Return the cut by what layers cost on rank 0, for all ranks."""
        found = [0] * self._num_stages
        if dist.get_rank() == 0:
            trained = [any(parameter.requires_grad for parameter in layer.parameters()) for layer in model]
            found = cut(measured_costs(model, sample(self._job.workload, model, self._size)), trained, self._num_stages)
        counts = torch.tensor(found, device=next(model.parameters()).device)
        dist.broadcast(counts, 0)
        return counts.tolist()

    def _share_tied(self, model: nn.Sequential, stages: Sequence[Sequence[tuple[str, nn.Module]]]) -> None:
        for parameter in model.parameters():
            users = [any(parameter is own for _, layer in stage for own in layer.parameters()) for stage in stages]
            ranks = sorted({number % self._num_ranks for number, uses in enumerate(users) if uses})
            if len(ranks) > 1 and self._rank in ranks:
                own = [dist.get_global_rank(self._group, rank) for rank in ranks]
                group = dist.new_group(own, use_local_synchronization=True)
                assert isinstance(group, dist.ProcessGroup), "this rank is among them"
                self._shared.append((parameter, group, self._rank == ranks[0]))

    # -- training ----------------------------------------------------------------------------------------------------

    def backward(self, module: nn.Module, batch: MicroBatch) -> torch.Tensor:
        """Run the schedule over one micro-batch of the step; return its loss, which the last stage tells all ranks."""
        del module
        self._batch, self._context = batch, batch.autocast.forward
        batch.autocast.scaled(self._number)  # the scaler of a rank that sees no loss must know its scale, too
        inputs = batch.inputs if isinstance(batch.inputs, tuple) else (batch.inputs,)
        size = self._equal(len(batch.labels))
        target = torch.cat([batch.labels, batch.labels.new_full((size - len(batch.labels),), _NO_LABEL)])
        schedule = self.schedule(size)
        for stage in self._stages:
            stage.mark = batch.mark
        batch.mark("data")
        schedule.step(
            *(padded(value, size) for value in inputs if self._is_first),
            target=target if self._is_last else None,
            return_outputs=False,
        )
        # The library calls the loss once more than there are micro-batches, to learn shapes before the first step.
        loss = torch.stack(self._losses[-self._chunks :]).sum().to(self._number) if self._is_last else self._number
        self._losses.clear()
        told = self._told_by_last(loss.clone())
        batch.mark("communication")
        return told

    def _opened(self) -> AbstractContextManager[object]:
        return self._context()

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self._batch.mark("communication")
        with self._batch.autocast.forward():
            loss = replace(self._batch, labels=labels).loss(logits)
        self._losses.append(loss.detach())
        scaled = self._batch.autocast.scaled(loss)
        self._batch.mark("forward")
        return scaled

    def synchronise(self, optimizer: torch.optim.Optimizer) -> None:
        """Add up the gradients of tied parameters over their stages; let a float16 overflow of one stage stop all."""
        for parameter, group, _ in self._shared:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad, group=group)
        if self._job.workload.precision == "fp16":
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            total = sum((gradient.sum() for gradient in gradients), self._number.clone())
            dist.all_reduce(total, group=self._group)
            if not torch.isfinite(total):
                for gradient in gradients:
                    gradient.fill_(torch.inf)

    def clip(self, parameters: Sequence[nn.Parameter], workload: Workload) -> None:
        """Clip by the norm over all stages, in which a tied parameter counts once; or by value."""
        trained = [parameter for parameter in parameters if parameter.grad is not None]
        # torch refuses to clip nothing, as in a stage without parameters.
        if workload.clip_value is not None and trained:
            clip_grad_value_(trained, workload.clip_value)
        if workload.clip_norm is not None:
            twice = {id(parameter) for parameter, _, counts in self._shared if not counts}
            own = [p.grad for p in trained if p.grad is not None and id(p) not in twice]
            total = get_total_norm(own).to(self._number) ** 2
            dist.all_reduce(total, group=self._group)
            clip_grads_with_norm_(trained, workload.clip_norm, total.sqrt())

    @torch.no_grad()
    def predict(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Return logits in evaluation mode, which the last stage tells all ranks."""
        module.eval()
        self._context = nullcontext
        size = self._equal(len(images))
        # A schedule with a loss takes it in evaluation, too.
        target = torch.full((size,), _NO_LABEL, device=images.device) if self._is_last else None
        logits = self.schedule(size).eval(*((padded(images, size),) if self._is_first else ()), target=target)
        empty = torch.empty(len(images), self._job.workload.num_classes, dtype=images.dtype, device=images.device)
        module.train()
        return self._told_by_last(logits[: len(images)].contiguous() if self._is_last else empty)

    # -- the place ---------------------------------------------------------------------------------------------------

    @property
    def _is_first(self) -> bool:
        return self._rank == 0

    @property
    def _is_last(self) -> bool:
        return self._rank == self._num_ranks - 1

    def _told_by_last(self, value: torch.Tensor) -> torch.Tensor:
        dist.broadcast(value, group=self._group, group_src=self._num_ranks - 1)
        return value


def _under_first_names(model: nn.Sequential, layers: Sequence[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    """Return layers, the first that use their parameters named after the first that does so in the whole model."""
    first = {id(parameter): name.partition(".")[0] for name, parameter in model.named_parameters()}
    named: dict[str, nn.Module] = {}
    for name, layer in layers:
        owner = next((first[id(parameter)] for parameter in layer.parameters()), name)
        named[name if owner in named else owner] = layer
    return list(named.items())


def _unreduced(replica: DistributedDataParallel) -> Callable[[PipelineStageInfo], AbstractContextManager[None]]:
    """Keep DDP from preparing a backward in the forward from which the library learns shapes, as it forgets to do.

    The reducer would count the first micro-batch's gradients as its own: "rebuilt parameter indices size is not same as
    original model parameters size".
    """
    return lambda info: replica.no_sync() if info.is_metadata_inference else nullcontext()


def padded(value: torch.Tensor, size: int) -> torch.Tensor:
    """Return ``size`` samples: those of ``value``, then copies of the first, which is as tame as any; zeros of none."""
    more = value[:1] if len(value) else value.new_zeros((1, *value.shape[1:]))
    return torch.cat([value, more.expand(size - len(value), *value.shape[1:])])


# -- checkpoints -------------------------------------------------------------------------------------------------


def save(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path, job: Job) -> None:
    """Write a distributed checkpoint of all stages."""
    del job
    save_checkpoint(
        {"model": _weights(model), "optimizer": _optimizer_state(model, optimizer)}, checkpoint_id=folder / _FOLDER
    )


def load(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path, job: Job) -> None:
    """Go on from a checkpoint of any number of stages: each takes what it holds by its name."""
    del job
    weights, state = _weights(model), _optimizer_state(model, optimizer)
    # Raises if the checkpoint lacks one of them.
    load_checkpoint({"model": weights, "optimizer": state}, checkpoint_id=folder / _FOLDER)
    model.load_state_dict(weights, strict=False)
    if state:
        set_optimizer_state_dict(model, optimizer, state, options=_BY_NAME)


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of the state dict, tied ones by their first name only.

    The other names depend on the cut: a rank has them if it holds several of the layers that share a tensor.
    """
    once = {name for name, _ in itertools.chain(model.named_parameters(), model.named_buffers())}
    return {name: tensor for name, tensor in model.state_dict().items() if name in once}


def _optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the optimizer's state by name; a stage that trains nothing has none, and torch refuses to return it."""
    trained = any(parameter.requires_grad for parameter in model.parameters())
    return get_optimizer_state_dict(model, optimizer, options=_BY_NAME) if trained else {}
