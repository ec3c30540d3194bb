"""How a strategy departs from serial training: what it hands to the PyTorch loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from harness.datasets.batches import Batch
from harness.loops import torch_checkpoint
from harness.loops.stopwatch import Mark, unmarked
from harness.loops.torch_comm import Communicator
from harness.loops.torch_settings import Autocast
from harness.plan import Indices, Step
from harness.record import Rung
from harness.spec import Job, Precision, Workload
from harness.timings import Epoch, Pipeline

Inputs: TypeAlias = torch.Tensor | tuple[torch.Tensor, ...]
Optimizer: TypeAlias = torch.optim.Optimizer
Named: TypeAlias = Mapping[str, nn.Parameter]
# From a step's number and the samples wanted to a batch, which says itself which samples it holds.
Fetch: TypeAlias = Callable[[int, Indices], Batch]


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """What one forward and backward works on.

    ``labels`` is int64 [n]; ``scale`` is the factor on the sum of the samples' losses; ``last`` tells the micro-batch
    after which the gradients must be complete. ``mark`` says that a part of the work, "forward" say, ends now.
    """

    inputs: Inputs
    labels: torch.Tensor
    scale: float
    last: bool
    autocast: Autocast
    mark: Mark = unmarked

    def loss(self, logits: torch.Tensor) -> torch.Tensor:
        """Return this micro-batch's part of the step's mean loss."""
        return nn.functional.cross_entropy(logits, self.labels, reduction="sum") * self.scale


def backward(module: nn.Module, batch: MicroBatch) -> torch.Tensor:
    """Go forward and backward through ``module``; return the loss."""
    with batch.autocast.forward():
        loss = batch.loss(module(batch.inputs))
    batch.mark("forward")
    batch.autocast.scaled(loss).backward()  # type: ignore[no-untyped-call]
    batch.mark("backward")
    return loss.detach()


def clip(parameters: Sequence[nn.Parameter], workload: Workload) -> None:
    """Clip the complete gradients as the workload says."""
    if workload.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, workload.clip_norm)
    if workload.clip_value is not None:
        torch.nn.utils.clip_grad_value_(parameters, workload.clip_value)


def strike_gradients(named: Named, strike: Callable[[Any], None]) -> None:
    """Let ``strike`` change the gradients where PyTorch keeps them."""
    strike(named)


@torch.no_grad()
def predict(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return logits in evaluation mode."""
    module.eval()
    logits: torch.Tensor = module(images)
    module.train()
    return logits


@dataclass(frozen=True, kw_only=True, slots=True)
class Parallelism:
    """How a strategy departs from serial training; the defaults are serial training.

    Attributes:
        hold: takes from the model the part whose parameters this rank trains (a pipeline stage); names stay.
        wrap: puts that part on its devices or into its parallel wrapper, in place or not.
        comm: the ranks that train together; None for one process that sees every sample.
        share: (index, number of shares): which part of every micro-batch this rank trains; its gradients are averaged
            over the shares. A share a rank where ``comm`` is given, else everything.
        wrap_optimizer: hands the optimizer (and the part of the model) to the library that reduces its gradients.
        micro_batch: (module, last) -> the context in which a forward and backward run; ``last`` is False while
            gradients are accumulated that need not be reduced yet.
        backward: goes forward and backward; returns the loss.
        autocast: from precision and device to what runs forward and backward in it.
        synchronise: returns once ``.grad`` of every parameter is complete: averaged over the shares.
        clip: clips the complete gradients; None where the library does so unseen, inside its update.
        update: applies the gradients.
        gradient: where the complete gradient of a parameter is.
        value: where the value of a parameter is.
        state: where the optimizer's state is, by parameter.
        strike_gradients: (parameters by name, strike) -> None: lets ``strike(parameters by name)`` change complete
            gradients in place, where they are not those of ``.grad``.
        predict: (module, images) -> logits in evaluation mode, on every rank.
        save: (part of the model, optimizer, folder, job): writes a checkpoint as users of the library would.
        load: the same arguments: goes on from such a checkpoint, maybe of another number of ranks.
        parts: rungs of which this rank holds a part of the tensors, whole or in pieces; other ranks hold the others.
        feed: (makes a batch, steps) -> what hands over the batches of these steps, called in order.
        tells_samples: whether this rank's samples count: one of several ranks that see the same samples tells them.
        tells_statistics: whether this rank's running statistics count: where nothing broadcasts them, rank 0's are the
            model's.
        starts_equal: every rank must be handed the same weights, since nothing broadcasts them. Unless a strategy says
            so, ranks other than 0 start from weights of their own, and only a broadcast makes them equal.
        closely: the context of an epoch that is not timed but looked at closely.
        pipeline: from timed epochs to how busy the stages of this process were; None where there are none, or none that
            can be told apart.
    """

    hold: Callable[[nn.Sequential], nn.Module] = lambda model: model
    wrap: Callable[[Any], nn.Module] = lambda model: model
    comm: Communicator | None = None
    share: tuple[int, int] | None = None
    wrap_optimizer: Callable[[Optimizer, nn.Module], Optimizer] = lambda optimizer, _: optimizer
    micro_batch: Callable[[nn.Module, bool], AbstractContextManager[Any]] = lambda _module, _last: nullcontext()
    backward: Callable[[nn.Module, MicroBatch], torch.Tensor] = backward
    autocast: Callable[[Precision, str], Autocast] = Autocast
    synchronise: Callable[[Optimizer], None] = lambda _optimizer: None
    clip: Callable[[Sequence[nn.Parameter], Workload], None] | None = clip
    update: Callable[[Optimizer], None] = lambda optimizer: optimizer.step()
    gradient: Callable[[nn.Parameter], torch.Tensor | None] = lambda parameter: parameter.grad
    value: Callable[[nn.Parameter], torch.Tensor] = lambda parameter: parameter
    state: Callable[[Optimizer], Mapping[Any, Mapping[str, Any]]] = lambda optimizer: optimizer.state
    strike_gradients: Callable[[Named, Callable[[Any], None]], None] = strike_gradients
    predict: Callable[[nn.Module, torch.Tensor], torch.Tensor] = predict
    save: Callable[[nn.Module, Optimizer, Path, Job], None] = torch_checkpoint.save
    load: Callable[[nn.Module, Optimizer, Path, Job], None] = torch_checkpoint.load
    parts: tuple[Rung, ...] = ()
    feed: Callable[[Fetch, Sequence[Step]], Fetch] = lambda make, _steps: make
    tells_samples: bool = True
    tells_statistics: bool = True
    starts_equal: bool = False
    closely: Callable[[], AbstractContextManager[None]] = nullcontext
    pipeline: Callable[[Sequence[Epoch]], Pipeline | None] = lambda _epochs: None

    def shares(self, job: Job) -> tuple[int, int]:
        """Return which part of every micro-batch this rank trains, and how many parts there are."""
        if self.share is not None:
            return self.share
        return (job.rank, job.world_size) if self.comm is not None else (0, 1)


SERIAL = Parallelism()


@torch.no_grad()
def disturb(parameters: Iterator[nn.Parameter], rank: int) -> None:
    """Change a rank's initial weights, as ranks that draw their own would have them."""
    for parameter in parameters:
        parameter.mul_(1 + 0.01 * rank).add_(0.01 * rank)
