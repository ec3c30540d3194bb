"""A training step, or a wrapper of a model, that knows nothing of Lockstep: watched from outside while it trains.

    def step(model, optimizer, inputs, labels) -> loss     called on every rank with the rank's own share of a batch
    def wrap(model) -> module                              as DistributedDataParallel: the loop trains what it returns

Both run inside torch.distributed's default group. What a step does with its gradients is seen where the optimizer sees
them, its starting weights where it first goes forward: before that it may broadcast them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from harness import plan
from harness.errors import SpecError
from harness.loops.torch_comm import evaluate_as_rank_0, process_group
from harness.loops.torch_loop import Parallelism, Training, fit
from harness.plan import Step
from harness.record import Rung, Trace
from harness.resolve import resolve
from harness.spec import Job

Function = Callable[..., Any]


def train_wrapped(job: Job) -> tuple[Trace, ...]:
    """Train the module that the user's function makes of the model."""
    wrap = resolve(str(job.options["function"]))
    with process_group(job) as group:
        parallelism = Parallelism(wrap=wrap, comm=group, starts_equal=bool(job.options["starts-equal"]))
        return fit(job, parallelism)


def train_stepped(job: Job) -> tuple[Trace, ...]:
    """Train with the user's own step."""
    with process_group(job) as group:
        return fit(job, Parallelism(comm=group, starts_equal=bool(job.options["starts-equal"])), Stepped)


class Stepped(Training):
    """A training whose steps are the user's: zeroing, forward, loss, backward, reducing, clipping, update."""

    def __init__(self, job: Job, parallelism: Parallelism) -> None:
        super().__init__(job, parallelism)
        self.function = resolve(str(job.options["function"]))
        taken = inspect.signature(self.function).parameters
        offered = {"clip_norm": self.workload.clip_norm, "accumulation": self.workload.accumulation}
        self.settings = {name: value for name, value in offered.items() if name in taken}
        self.rung: Rung = "gradients before clipping"
        if self.workload.clip_norm is not None:
            self.rung = "gradients after clipping"
            self.recorder.not_shown["gradients before clipping"] = "the step clips before its optimizer sees them"
        self.first = self.number = -1
        self.num_updates = self.num_forwards = 0
        self.optimizer.register_step_pre_hook(self._before_update)
        self.model.register_forward_pre_hook(self._before_forward)
        evaluate_as_rank_0(self.model)

    def train_step(self, step: Step) -> torch.Tensor:
        """Let the user's function train its share; return this rank's part of the global mean loss."""
        self.number, self.num_updates = step.number, 0
        for group in self.optimizer.param_groups:
            group["lr"] = step.learning_rate
        own = np.concatenate([plan.shard(micro, self.share, self.num_shares) for micro in step.micro_batches])
        batch = self.fetch(step.number, own)
        self.taps.samples(batch.samples)
        inputs, labels = self._to_device(batch)
        self.mark("data")
        loss = self.function(self.model, self.optimizer, inputs, labels, **self.settings)
        if not self.num_updates or not self.num_forwards:
            absent = "optimizer.step()" if self.num_forwards else "model(inputs)"
            raise SpecError(
                f"expected {self.function.__name__} to call {absent} but it did not at step {step.number}; the model "
                "and the optimizer that it is handed are the ones to train"
            )
        self.mark("step")
        return self._number(loss) * (len(own) * self.num_shares / step.size)

    def _number(self, loss: object) -> torch.Tensor:
        """Return what the step returned, the mean loss of its samples, as a number."""
        if isinstance(loss, torch.Tensor) and loss.numel() == 1:
            return loss.detach().reshape(()).to(self.dtype)
        if isinstance(loss, int | float):
            return torch.tensor(loss, dtype=self.dtype, device=self.device)
        raise SpecError(
            f"expected {self.function.__name__} to return the mean loss of its samples, a number or a tensor of one, "
            f"but got {loss!r:.100}; end it with `return loss`"
        )

    def _begin_check(self, step: int) -> None:
        self.first = step

    def _before_forward(self, _module: object, _inputs: object) -> None:
        if not self.num_forwards:
            self.taps.after_update(self.first, self.optimizer, initial=True)
        self.num_forwards += 1

    def _before_update(self, *_arguments: object) -> None:
        self.num_updates += 1
        self.taps.gradients(self.rung, self.number)
