"""The one PyTorch training loop that every strategy borrows: serial by default, parallel by what it is handed.

One optimizer step, with the rungs of the ladder where they are recorded:

    for each micro-batch:   samples -> [data order] -> forward (-> [buffers at next forward]) -> loss -> backward
    synchronise             -> [loss] [gradients before clipping]
    clip                    -> [gradients after clipping]
    update                  -> [optimizer state] [parameters] [buffers]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from harness import plan
from harness.datasets import base as datasets
from harness.datasets.batches import make_batch
from harness.faults.base import seams_of
from harness.loops import torch_model
from harness.loops.torch_comm import Communicator
from harness.loops.torch_settings import build_optimizer, fix_arithmetic, peak_memory, place
from harness.loops.torch_taps import Taps
from harness.models import base as models
from harness.plan import Indices, Step
from harness.record import Epoch, Trace
from harness.recorder import Recorder
from harness.spec import Job
from harness.wire import Channel, EpochDone
from harness.wire import Step as StepDone

Inputs = torch.Tensor | tuple[torch.Tensor, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parallelism:
    """How a strategy departs from serial training; the defaults are serial training.

    Attributes:
        wrap: puts the model on its devices or into its parallel wrapper.
        comm: the ranks that train together, each on its shard, with gradients averaged over them; None for one process
            that sees every sample.
        wrap_optimizer: hands the optimizer (and the model) to the library that reduces its gradients.
        synchronise: returns once ``.grad`` of every parameter holds the average over the ranks.
        update: applies the gradients.
        starts_equal: every rank must be handed the same weights, since nothing broadcasts them. Unless a strategy says
            so, ranks other than 0 start from weights of their own, and only a broadcast makes them equal.
    """

    wrap: Callable[[nn.Module], nn.Module] = lambda model: model
    comm: Communicator | None = None
    wrap_optimizer: Callable[[torch.optim.Optimizer, nn.Module], torch.optim.Optimizer] = lambda optimizer, _: optimizer
    synchronise: Callable[[torch.optim.Optimizer], None] = lambda _optimizer: None
    update: Callable[[torch.optim.Optimizer], None] = lambda optimizer: optimizer.step()
    starts_equal: bool = False


SERIAL = Parallelism()


def fit(job: Job, parallelism: Parallelism = SERIAL) -> tuple[Trace, ...]:
    """Train what the job says and return what was observed; ``job.purpose`` decides between check and timed epochs."""
    fix_arithmetic(job)
    training = _Training(job, parallelism)
    return training.check() if job.purpose == "parity" else training.run_timed()


class _Training:
    """A model, its optimizer and its data on the way through one job."""

    def __init__(self, job: Job, parallelism: Parallelism) -> None:
        self.job, self.workload, self.parallelism = job, job.workload, parallelism
        self.dtype_name = self.workload.check.dtype if job.purpose == "parity" else self.workload.dtype
        self.dtype: torch.dtype = getattr(torch, self.dtype_name)
        self.device = place(job)
        self.data = datasets.load(self.workload, cache=job.cache, data_root=job.data_root)
        self.sites = models.dropout_sites(models.layers(self.workload))
        self.seams = seams_of(job)
        self.model = torch_model.build(self.workload, dtype=self.dtype, device=self.device)
        if parallelism.comm is not None and job.rank and not parallelism.starts_equal:
            _disturb(self.model, job.rank)
        self.module = self.seams.module(parallelism.wrap(self.model), self.model)
        self.parameters = list(self.model.parameters())
        self.optimizer = parallelism.wrap_optimizer(build_optimizer(self.workload.optimizer, self.model), self.model)
        self.seams.optimizer(self.optimizer)
        self.channel = Channel(job.channel, num_epochs=self.workload.epochs)
        self.recorder = Recorder(job)
        self.taps = Taps(self.recorder, self.model, distributed=parallelism.comm is not None)
        # Ranks average their gradients, so each weighs its sum of losses with the number of ranks.
        self.weight = job.world_size if parallelism.comm is not None else 1

    # -- one step ----------------------------------------------------------------------------------------------------

    def train_step(self, step: Step) -> torch.Tensor:
        """Train one optimizer step; return this process's part of the global mean loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = step.learning_rate
        self.optimizer.zero_grad()
        loss = torch.zeros((), dtype=self.dtype, device=self.device)
        for micro_batch in step.micro_batches:
            for samples, buffers in self._groups(step, micro_batch):
                with buffers:
                    loss += self._backward(step, samples)
        self.seams.local_gradients(step.number, self.parameters)
        self.parallelism.synchronise(self.optimizer)
        self.seams.gradients(step.number, self.parameters)
        self.taps.gradients("gradients before clipping", step.number)
        if self.workload.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.workload.clip_norm)
            self.seams.clipped(step.number, self.parameters)
            self.taps.gradients("gradients after clipping", step.number)
        self.seams.before_update(step.number, self.optimizer)
        self.parallelism.update(self.optimizer)
        return loss

    def _backward(self, step: Step, samples: Indices) -> torch.Tensor:
        self.taps.samples(samples)
        inputs, labels = self._to_device(samples, step.number)
        scale = self.seams.loss_scale(step, len(samples), self.weight / step.size)
        self.taps.before_forward()
        loss = nn.functional.cross_entropy(self.module(inputs), labels, reduction="sum") * scale
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _groups(self, step: Step, micro_batch: Indices) -> Iterator[tuple[Indices, _Buffers | nullcontext[None]]]:
        """Yield the samples to process one after the other, each with what must happen to the buffers around it."""
        if self.parallelism.comm is not None:
            local = plan.shard(micro_batch, self.job.rank, self.job.world_size)
            yield self.seams.samples(step, local, micro_batch), nullcontext()
            return
        arrangement = self.job.arrangement
        for number, samples in enumerate(plan.arranged(micro_batch, step.number, arrangement)):
            if not len(samples):
                continue
            restore = arrangement.batchnorm == "per-shard" and number > 0
            yield (
                self.seams.samples(step, samples, micro_batch),
                _Buffers(self.model) if restore else nullcontext(),
            )

    def _to_device(self, samples: Indices, step: int) -> tuple[Inputs, torch.Tensor]:
        batch = make_batch(self.workload, self.data, samples, step=step, dtype=self.dtype_name, sites=self.sites)
        images = torch.from_numpy(batch.images).to(self.device)
        labels = torch.from_numpy(batch.labels).to(self.device)
        masks = tuple(torch.from_numpy(mask).to(self.device) for mask in batch.masks)
        return (images, *masks) if masks else images, labels

    # -- the equality check ------------------------------------------------------------------------------------------

    def check(self) -> tuple[Trace, ...]:
        """Train the check's steps, recording every rung."""
        self.taps.after_update(-1, self.optimizer, initial=True)
        for step in plan.check_steps(self.workload):
            self.taps.begin(step.number)
            loss = self.train_step(step)
            self.recorder.tap("loss", step.number, "loss", self._mean(loss).cpu().numpy())
            self.taps.data_order(step.number, length=self.workload.check.global_batch)
            self.taps.after_update(step.number, self.optimizer)
            self.channel.send(StepDone(step=step.number))
        logits = self._logits(self.workload.check.num_held_out)
        self.recorder.tap("predictions", step.number, "logits", logits.cpu().numpy())
        return self.recorder.traces()

    def _mean(self, value: torch.Tensor) -> torch.Tensor:
        return value if self.parallelism.comm is None else self.parallelism.comm.mean(value)

    @torch.no_grad()
    def _logits(self, limit: int) -> torch.Tensor:
        """Return held-out logits, shape (min(limit, held-out samples), classes), through the parallel wrapper."""
        self.module.eval()
        parts = []
        images = self.data.held_out_images[:limit]
        for start in range(0, len(images), 256):
            part = np.array(images[start : start + 256], dtype=self.dtype_name)
            parts.append(self.module(torch.from_numpy(part).to(self.device)))
        self.module.train()
        return torch.cat(parts)

    # -- timed epochs ------------------------------------------------------------------------------------------------

    def run_timed(self) -> tuple[Trace, ...]:
        """Train an epoch whenever it is this training's turn; evaluate when the turns are over."""
        losses: list[float] = []
        step, num_samples = 0, len(self.data.labels)
        while self.channel.turn():
            steps = plan.epoch_steps(self.workload, len(losses), num_samples, self.workload.global_batch, step)
            step += len(steps)
            total = torch.zeros((), dtype=self.dtype, device=self.device)
            self._settle()
            start_s = time.monotonic()
            for number in steps:
                total += self.train_step(number)
            self._drain()
            end_s = time.monotonic()
            losses.append(float(self._mean(total)) / len(steps))
            self.channel.send(EpochDone(epoch=Epoch(start_s=start_s, end_s=end_s, num_samples=num_samples)))
        hits = self._logits(len(self.data.held_out_labels)).argmax(1).cpu().numpy() == self.data.held_out_labels
        return (
            Trace(
                rank=self.job.rank,
                losses=tuple(losses),
                accuracy=float(np.mean(hits)),
                num_held_out=len(hits),
                peak_memory_bytes=peak_memory(self.job),
            ),
        )

    def _settle(self) -> None:
        """Start together: nothing in flight on the device, every rank here."""
        self._drain()
        if self.parallelism.comm is not None:
            self.parallelism.comm.barrier()

    def _drain(self) -> None:
        if self.job.device == "cuda":
            torch.cuda.synchronize()


@torch.no_grad()
def _disturb(model: nn.Module, rank: int) -> None:
    """Change a rank's initial weights, as ranks that draw their own would have them."""
    for parameter in model.parameters():
        parameter.mul_(1 + 0.01 * rank).add_(0.01 * rank)


class _Buffers:
    """Gives a model its buffers back after a shard whose running statistics would be thrown away."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def __enter__(self) -> None:
        self._kept = [buffer.clone() for buffer in self._model.buffers()]

    def __exit__(self, *_error: object) -> None:
        for buffer, kept in zip(self._model.buffers(), self._kept, strict=True):
            buffer.copy_(kept)
