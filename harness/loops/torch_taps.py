"""Where a PyTorch training hands its rungs to the recorder."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from harness.activations import Activations
from harness.loops.torch_model import Travelling
from harness.loops.torch_parallelism import Parallelism
from harness.plan import Indices, Step
from harness.record import Rung
from harness.recorder import Piece, Recorder
from harness.spec import Job

# PyTorch's names of optimizer state -> canonical names.
STATE_NAMES = {"momentum_buffer": "momentum", "exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"}


class Taps:
    """Records one training, of its buffers the ``buffers``; does nothing when the recorder is off."""

    def __init__(
        self, job: Job, recorder: Recorder, model: nn.Module, parallelism: Parallelism, buffers: frozenset[str]
    ) -> None:
        self._recorder = recorder
        self._model = model
        self._parallelism = parallelism
        self._known_buffers = buffers
        self._distributed = parallelism.comm is not None
        recorder.holds_part(*parallelism.parts)
        if not parallelism.tells_samples:
            recorder.not_shown["data order"] = "another rank that sees the same samples tells them"
        if not parallelism.tells_statistics:
            recorder.not_shown["buffers at next forward"] = "every rank keeps the running statistics of its own samples"
        if parallelism.clip is None:
            recorder.not_shown["gradients after clipping"] = "the library clips unseen, inside its update"
        self._step = -1
        self._buffers_at: int | None = None
        self._samples: list[Indices] = []
        if recorder.on and self._distributed and parallelism.tells_statistics:
            # DistributedDataParallel broadcasts buffers inside its forward, just before it calls the model.
            model.register_forward_pre_hook(lambda _module, _inputs: self._forward_begins())
        self._activations = Activations(recorder, job)
        for name, layer in model.named_children() if self._activations.on else ():
            layer.register_forward_hook(partial(self._layer_ends, name))

    def begin(self, step: Step) -> None:
        """Start recording ``step``."""
        self._step = step.number
        self._samples = []
        self._activations.begin(step)

    def samples(self, samples: Indices) -> None:
        """Note the samples of one forward."""
        if self._recorder.on:
            self._samples.append(samples)

    def data_order(self, step: int, *, length: int) -> None:
        """Record the samples of a step in the order in which they were trained, padded with -1 to ``length``."""
        if self._parallelism.tells_samples:
            self._recorder.data_order(step, self._samples, length=length)

    def before_forward(self) -> None:
        """Record the buffers before a step's first forward, where no library changes them on the way in."""
        if self._recorder.on and not self._distributed:
            self._forward_begins()

    def _forward_begins(self) -> None:
        # Only the first forward of a step in training, and the first one only: evaluation comes after the last step.
        if self._buffers_at == self._step or not self._model.training:
            return
        self._buffers_at = self._step
        self._buffers("buffers at next forward", self._step)

    def _layer_ends(self, name: str, layer: nn.Module, _inputs: object, output: Travelling) -> None:
        if self._activations.wanted and layer.training:
            head = output if isinstance(output, torch.Tensor) else output[0]
            self._activations.add(name, self._samples[-1], head.detach().cpu().numpy())

    def activations(self) -> None:
        """Record what the layers put out, where that was asked for."""
        self._activations.record()

    def gradients(self, rung: Rung, step: int) -> None:
        """Record the gradient of every parameter; one that received none counts as zero."""
        if not self._recorder.on:
            return
        for name, parameter in self._model.named_parameters():
            gradient = self._parallelism.gradient(parameter)
            value = torch.zeros_like(parameter) if gradient is None else gradient
            self._tap(rung, step, name, value, trainable=parameter.requires_grad)

    def after_update(self, step: int, optimizer: torch.optim.Optimizer, *, initial: bool = False) -> None:
        """Record parameters and, after a real step, optimizer state and buffers."""
        if not self._recorder.on:
            return
        if not initial:
            self._optimizer_state(step, optimizer)
            self._buffers("buffers", step)
        for name, parameter in self._model.named_parameters():
            value = self._parallelism.value(parameter)
            self._tap("parameters", step, name, value, trainable=parameter.requires_grad)

    def _optimizer_state(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        steps = []
        states = self._parallelism.state(optimizer)
        kept = [
            key for key in STATE_NAMES if any(isinstance(state.get(key), torch.Tensor) for state in states.values())
        ]
        for name, parameter in self._model.named_parameters():
            state = states.get(parameter, {})
            for key in kept:
                value = state.get(key)
                if value is None and parameter.requires_grad and "optimizer state" not in self._parallelism.parts:
                    # An optimizer makes the state of a parameter with its first gradient: till then it is zero.
                    value = torch.zeros_like(parameter)
                if isinstance(value, torch.Tensor):
                    self._tap("optimizer state", step, f"{STATE_NAMES[key]}:{name}", value)
            if "step" in state:
                steps.append(float(state["step"]))
        if steps:
            # One number for all: a single parameter that lost count moves the mean.
            self._recorder.tap("optimizer state", step, "step", np.float64(np.mean(steps)))

    def _buffers(self, rung: Rung, step: int) -> None:
        for name, buffer in self._model.named_buffers():
            if buffer.is_floating_point() and name in self._known_buffers:
                self._tap(rung, step, name, buffer)

    def _tap(self, rung: Rung, step: int, name: str, value: torch.Tensor, *, trainable: bool = True) -> None:
        local, piece = placed(value.detach())
        seen = local if self._recorder.sketched(rung, tuple(local.shape), piece) else local.cpu().numpy()
        self._recorder.tap(rung, step, name, seen, trainable=trainable, piece=piece, multiply=multiplied)


def multiplied(weights: NDArray[np.floating[Any]], values: torch.Tensor) -> NDArray[np.floating[Any]]:
    """Return ``weights @ values``, computed where the values are."""
    return (torch.from_numpy(weights).to(values.device, values.dtype) @ values).cpu().numpy()


def placed(value: torch.Tensor) -> tuple[torch.Tensor, Piece | None]:
    """Return what of a tensor lies on this rank, and where it lies in the whole; None where it is the whole."""
    if not isinstance(value, DTensor):
        return value, None
    if any(placement.is_partial() for placement in value.placements):
        value = value.redistribute(
            placements=[Replicate() if placement.is_partial() else placement for placement in value.placements]
        )
    if all(placement.is_replicate() for placement in value.placements):
        return value.to_local(), None
    _, start = compute_local_shape_and_global_offset(value.shape, value.device_mesh, value.placements)
    return value.to_local(), Piece(whole=tuple(value.shape), start=tuple(start))
