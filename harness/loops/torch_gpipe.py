"""A model in torchgpipe's pipeline, as its options ask; and how busy its partitions are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torchgpipe import GPipe
from torchgpipe.balance import balance_by_time

from harness.loops import torch_model
from harness.loops.pipeline_cut import given
from harness.loops.torch_costs import sample
from harness.loops.torch_parallelism import MicroBatch, backward
from harness.loops.torch_settings import Autocast
from harness.measure.pipelines import ideal
from harness.spec import Job
from harness.timings import Pipeline

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


class Partitions:
    """Notes how long each partition of a pipeline works, on a CPU, in an epoch that is looked at closely.

    On a CPU torchgpipe runs all forwards on one thread and autograd all backwards on another: a partition's backward
    lasts from the gradient of its output to that of the output of the next one that goes backward.
    """

    def __init__(self) -> None:
        self._busy_s: list[float] = []
        self._inside_s = 0.0
        self._num_chunks = 0
        self._on = False
        self._begun_s = 0.0
        # What goes backward now, and since when.
        self._backward: tuple[int, float] | None = None

    def watch(self, pipe: GPipe) -> GPipe:
        """Watch the partitions of ``pipe`` from now on, in closer looks only."""
        self._busy_s, self._num_chunks = [0.0] * len(pipe.partitions), pipe.chunks
        for number, partition in enumerate(pipe.partitions):
            partition.register_forward_pre_hook(lambda *_: self._begin_forward())
            partition.register_forward_hook(lambda _module, _inputs, output, number=number: self._end(number, output))
        return pipe

    @contextmanager
    def closely(self) -> Iterator[None]:
        """Look while one epoch trains."""
        self._on = True
        yield
        self._on = False

    def backward(self, module: nn.Module, batch: MicroBatch) -> torch.Tensor:
        """Go forward and backward through ``module``; return the loss."""
        begun_s = time.monotonic()
        loss = backward(module, batch)
        if self._on:
            self._turn_backward(None)
            self._inside_s += time.monotonic() - begun_s
        return loss

    def pipeline(self, _epochs: object) -> Pipeline | None:
        """Return how busy the partitions were in the epoch that was looked at; None where there was none."""
        if not self._inside_s:
            return None
        return Pipeline(
            busy_s=tuple(self._busy_s),
            epoch_s=self._inside_s,
            num_micro_batches=self._num_chunks,
            ideal=ideal(len(self._busy_s), self._num_chunks),
            efficiency=sum(self._busy_s) / len(self._busy_s) / self._inside_s,
        )

    def _begin_forward(self) -> None:
        # A checkpoint goes forward in the middle of the backward, right before its own.
        self._turn_backward(None)
        self._begun_s = time.monotonic()

    def _end(self, number: int, output: Any) -> None:
        if not self._on:
            return
        self._busy_s[number] += time.monotonic() - self._begun_s
        head = output if isinstance(output, torch.Tensor) else output[0]
        if head.requires_grad:
            head.register_hook(lambda _gradient: self._turn_backward(number))

    def _turn_backward(self, number: int | None) -> None:
        """Let what goes backward end, and the partition ``number`` begin."""
        now_s = time.monotonic()
        if self._backward is not None:
            ended, since_s = self._backward
            self._busy_s[ended] += now_s - since_s
        self._backward = None if number is None else (number, now_s)


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
