"""The one PyTorch training loop that every strategy borrows: serial by default, parallel by what it is handed.

One optimizer step, with the rungs of the ladder where they are recorded:

    for each micro-batch:   samples -> [data order] -> forward (-> [buffers at next forward]) -> loss -> backward
    synchronise             -> [loss] [gradients before clipping]
    clip                    -> [gradients after clipping]
    update                  -> [optimizer state] [parameters] [buffers]
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import nn

from harness import plan
from harness.datasets import base as datasets
from harness.datasets.batches import Batch, make_batch
from harness.faults.base import seams_of
from harness.loops import torch_model, torch_profile
from harness.loops.scores import Scores, mean_of, timed_trace
from harness.loops.stopwatch import Mark, Stopwatch, unmarked
from harness.loops.torch_buffers import KeptBuffers, updated_once
from harness.loops.torch_fuzz import delay_gradients, shaken
from harness.loops.torch_parallelism import SERIAL, Fetch, Inputs, MicroBatch, Parallelism, disturb
from harness.loops.torch_settings import build_optimizer, fix_arithmetic, peak_memory, place, stopwatch
from harness.loops.torch_taps import Taps
from harness.models import base as models
from harness.plan import Indices, Step
from harness.record import Trace
from harness.recorder import Recorder
from harness.spec import Job, Leg, Workload
from harness.timings import Communication, Epoch
from harness.wire import Channel, EpochDone
from harness.wire import Step as StepDone

__all__ = ["SERIAL", "Parallelism", "Training", "fit"]
_EVALUATION_BATCH = 256


def fit(job: Job, parallelism: Parallelism = SERIAL, kind: type[Training] | None = None) -> tuple[Trace, ...]:
    """Train what the job says and return what was observed; ``job.purpose`` decides between check and timed epochs."""
    fix_arithmetic(job)
    with shaken(job):
        training = (kind or Training)(job, parallelism)
        return training.check() if job.purpose == "parity" else training.run_timed()


def _making(workload: Workload, data: datasets.Data, dtype: str) -> Fetch:
    """Return what makes batches. A bound method in its place would keep a training, and the threads of its module."""
    sites = models.dropout_sites(models.layers(workload))
    return lambda step, samples: make_batch(workload, data, samples, step=step, dtype=dtype, sites=sites)


class Training:
    """A model, its optimizer and its data on the way through one job."""

    def __init__(self, job: Job, parallelism: Parallelism) -> None:
        self.job, self.workload, self.parallelism = job, job.workload, parallelism
        self.dtype_name = self.workload.check.dtype if job.purpose == "parity" else self.workload.dtype
        self.dtype: torch.dtype = getattr(torch, self.dtype_name)
        self.device = place(job)
        self.data = datasets.load(self.workload, cache=job.cache, data_root=job.data_root)
        self.seams = seams_of(job)
        self.model = parallelism.hold(torch_model.build(self.workload, dtype=self.dtype, device=self.device))
        torch_model.sum_in_parts(self.model, job.arrangement.layer_parts)
        if parallelism.comm is not None and job.rank and not parallelism.starts_equal:
            disturb(self.model.parameters(), job.rank)
        delay_gradients(self.model, job)
        # Libraries add buffers of their own, which no reference has.
        buffers = frozenset(name for name, _ in self.model.named_buffers())
        self.module = self.seams.module(parallelism.wrap(self.model), self.model)
        self.named = dict(self.model.named_parameters())
        self.parameters = list(self.named.values())
        self.seams.weights({name: parameter.detach() for name, parameter in self.named.items()})
        self.optimizer = parallelism.wrap_optimizer(build_optimizer(self.workload.optimizer, self.model), self.model)
        self.seams.optimizer(self.optimizer)
        self.autocast = parallelism.autocast(self.workload.precision, self.device)
        self.channel = Channel(job.channel, num_epochs=self.workload.epochs)
        self.recorder = Recorder(job)
        self.taps = Taps(job, self.recorder, self.model, parallelism, buffers)
        self.share, self.num_shares = parallelism.shares(job)
        # A rerun in shards rounds where ranks round: they average gradients of sums weighted with their number.
        self.weight = job.arrangement.shards
        self.make = self.fetch = _making(self.workload, self.data, self.dtype_name)
        self.mark: Mark = unmarked

    # -- one step ----------------------------------------------------------------------------------------------------

    def train_step(self, step: Step) -> torch.Tensor:
        """Train one optimizer step; return this process's part of the global mean loss."""
        self.seams.begin(step.number)
        for group in self.optimizer.param_groups:
            group["lr"] = step.learning_rate
        self.optimizer.zero_grad()
        self.mark("optimizer")
        loss = torch.zeros((), dtype=self.dtype, device=self.device)
        for number, micro_batch in enumerate(step.micro_batches, 1):
            last = self.seams.last(step, number - 1, number == len(step.micro_batches))
            for samples, buffers in self._groups(step, micro_batch):
                with buffers:
                    loss += self._backward(step, samples, last=last)
        if self.weight > 1:
            loss /= self.weight
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad /= self.weight
        self.seams.local_gradients(step.number, self.named)
        # Adding up losses is little, but gradients are on their way meanwhile.
        self.mark("backward")
        self.seams.synchronise(step.number, partial(self.parallelism.synchronise, self.optimizer))
        self.mark("communication")
        self.autocast.unscale(self.optimizer)
        self.parallelism.strike_gradients(self.named, partial(self.seams.gradients, step.number))
        self.taps.gradients("gradients before clipping", step.number)
        clipped = self.workload.clip_norm is not None or self.workload.clip_value is not None
        if clipped and self.parallelism.clip is not None:
            clip = partial(self.parallelism.clip, self.parameters, self.workload)
            self.seams.clip(step.number, self.named, clip)
            self.seams.clipped(step.number, self.named)
            self.taps.gradients("gradients after clipping", step.number)
        self.seams.before_update(step.number, self.optimizer)
        self.autocast.update(self.optimizer, self.parallelism.update)
        self.seams.updated(step.number, self.model, self.optimizer)
        self.mark("optimizer")
        return loss

    def _backward(self, step: Step, samples: Indices, *, last: bool) -> torch.Tensor:
        fetched = self.seams.batch(step, self.fetch(step.number, samples))
        self.taps.samples(fetched.samples)
        inputs, labels = self._to_device(fetched)
        # Ranks average their gradients, so each weighs its sum of losses with the number of shares.
        scale = self.seams.loss_scale(step, len(fetched.samples), self.weight * self.num_shares / step.size)
        self.taps.before_forward()
        self.mark("data")
        batch = MicroBatch(inputs=inputs, labels=labels, scale=scale, last=last, autocast=self.autocast, mark=self.mark)
        with self.parallelism.micro_batch(self.module, last):
            return self.parallelism.backward(self.module, batch)

    def _groups(self, step: Step, micro_batch: Indices) -> Iterator[tuple[Indices, KeptBuffers | nullcontext[None]]]:
        """Yield the samples to process one after the other, each with what must happen to the buffers around it."""
        if self.parallelism.comm is not None:
            local = plan.shard(micro_batch, self.share, self.num_shares)
            yield self.seams.samples(step, local, micro_batch), nullcontext()
            return
        arrangement = self.job.arrangement
        deferred = arrangement.batchnorm == "deferred"
        with updated_once(self.model) if deferred else nullcontext():
            for number, samples in enumerate(plan.arranged(micro_batch, step.number, arrangement)):
                if not len(samples):
                    continue
                restore = deferred or (arrangement.batchnorm == "per-shard" and number > 0)
                yield (
                    self.seams.samples(step, samples, micro_batch),
                    KeptBuffers(self.model) if restore else nullcontext(),
                )

    def _to_device(self, batch: Batch) -> tuple[Inputs, torch.Tensor]:
        images = torch.from_numpy(batch.images).to(self.device)
        labels = torch.from_numpy(batch.labels).to(self.device)
        masks = tuple(torch.from_numpy(mask).to(self.device) for mask in batch.masks)
        return (images, *masks) if masks else images, labels

    # -- the equality check ------------------------------------------------------------------------------------------

    def check(self) -> tuple[Trace, ...]:
        """Train the check's steps (those of the job's leg), recording every rung."""
        leg = self.job.leg or Leg(first=0, last=self.workload.check.num_steps)
        if leg.load:
            self.parallelism.load(self.model, self.optimizer, Path(leg.load), self.job)
            self.seams.loaded(self.model, self.optimizer)
        self._begin_check(leg.first - 1)
        steps = tuple(itertools.islice(plan.check_steps(self.workload), leg.first, leg.last))
        self.fetch = self.parallelism.feed(self.make, steps)
        for step in steps:
            self.taps.begin(step)
            loss = self.train_step(step)
            self.taps.activations()
            self.recorder.tap("loss", step.number, "loss", self._mean(loss).cpu().numpy())
            self.taps.data_order(step.number, length=self.workload.check.global_batch)
            self.taps.after_update(step.number, self.optimizer)
            self.channel.send(StepDone(step=step.number))
        if leg.save:
            self.parallelism.save(self.model, self.optimizer, Path(leg.save), self.job)
        else:
            self._tap_predictions(leg.last - 1)
        return self.recorder.traces()

    def _begin_check(self, step: int) -> None:
        self.taps.after_update(step, self.optimizer, initial=True)

    def _tap_predictions(self, step: int) -> None:
        limit = self.workload.check.num_held_out
        logits = self._logits(slice(limit))
        self.recorder.tap("predictions", step, "logits", logits.cpu().numpy())
        own = self._own_held_out(min(limit, len(self.data.held_out_labels)))
        for name, value in self._scores(logits[own], own)._asdict().items():
            self.recorder.tap("predictions", step, f"held-out {name}", value)

    def _mean(self, value: torch.Tensor) -> torch.Tensor:
        return value if self.parallelism.comm is None else self.parallelism.comm.mean(value)

    # -- evaluation --------------------------------------------------------------------------------------------------

    def _own_held_out(self, num_samples: int) -> slice:
        """Return this rank's held-out samples: shares differ in size rather than overlap, so none counts twice."""
        own = plan.shard(np.arange(num_samples), self.share, self.num_shares)
        return self.seams.held_out(slice(int(own[0]), int(own[-1]) + 1) if len(own) else slice(0, 0), num_samples)

    def _logits(self, samples: slice) -> torch.Tensor:
        """Return logits of held-out samples, shape (samples, classes), through the parallel wrapper."""
        images = self.data.held_out_images[samples]
        # As many forwards on every rank, though shares differ by a sample: a forward may be a collective operation.
        num_parts = 1 + len(self.data.held_out_labels) // _EVALUATION_BATCH
        parts = [np.array(part, dtype=self.dtype_name) for part in np.array_split(images, num_parts)]
        return torch.cat([self.parallelism.predict(self.module, torch.from_numpy(p).to(self.device)) for p in parts])

    def _scores(self, logits: torch.Tensor, samples: slice) -> Scores:
        """Return loss, hits and number of the held-out samples of all ranks, each rank adding its own."""
        labels = torch.from_numpy(self.data.held_out_labels[samples].copy()).to(self.device)
        loss = nn.functional.cross_entropy(logits.double(), labels, reduction="sum")
        hits = (logits.argmax(1) == labels).sum()
        own = torch.stack([loss, hits.double(), torch.tensor(len(labels), dtype=torch.float64, device=self.device)])
        return mean_of((self._mean(own) * self.num_shares).cpu().numpy())

    # -- timed epochs ------------------------------------------------------------------------------------------------

    def run_timed(self) -> tuple[Trace, ...]:
        """Train an epoch whenever it is this training's turn; evaluate what those that are timed have trained."""
        watch = stopwatch(self.job)
        self.mark = watch.mark
        losses: list[float] = []
        epochs: list[Epoch] = []
        step, trace = 0, None
        communication: Communication | None = None
        for number, turn in enumerate(iter(self.channel.turn, None)):
            steps = plan.epoch_steps(self.workload, number, len(self.data.labels), self.workload.global_batch, step)
            step += len(steps)
            if turn.profile:
                trace = trace or self._told(losses)
                with self.parallelism.closely():
                    train = partial(self._timed_epoch, steps[: torch_profile.MOST_STEPS], watch)
                    (epoch, _), communication = torch_profile.profiled(self.job, train)
            else:
                epoch, loss = self._timed_epoch(steps, watch, stamped=turn.parts)
                epochs.append(epoch)
                losses.append(float(self._mean(loss)))
            self.channel.send(EpochDone(epoch=epoch))
        trace = trace or self._told(losses)
        pipeline = self.parallelism.pipeline(epochs)
        return (msgspec.structs.replace(trace, communication=communication, pipeline=pipeline),)

    def _timed_epoch(self, steps: Sequence[Step], watch: Stopwatch, *, stamped: bool = True) -> torch_profile.Trained:
        """Train one epoch together; return its times, and this process's part of its mean loss."""
        total = torch.zeros((), dtype=self.dtype, device=self.device)
        self._settle()
        watch.start(stamped=stamped)
        self.fetch = self.parallelism.feed(self.make, steps)
        for step in steps:
            total += self.train_step(step)
        self._drain()
        return watch.stop(len(self.data.labels)), total / len(steps)

    def _told(self, losses: Sequence[float]) -> Trace:
        (trace,) = timed_trace(self.job.rank, losses, self._held_out_scores(), peak_memory(self.job))
        return trace

    def _held_out_scores(self) -> Scores:
        """Evaluate on all held-out samples, every rank on its own."""
        own = self._own_held_out(len(self.data.held_out_labels))
        return self._scores(self._logits(own), own)

    def _settle(self) -> None:
        """Start together: nothing in flight on the device, every rank here."""
        self._drain()
        if self.parallelism.comm is not None:
            self.parallelism.comm.barrier()

    def _drain(self) -> None:
        if self.job.device == "cuda":
            torch.cuda.synchronize()
