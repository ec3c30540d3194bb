"""The referee's training of an equality check: the loops' ladder, computed in plain numpy float64.

What is shared with the loops is numpy already and no framework's: which samples are trained when (``plan``), their
pixels and dropout masks (``make_batch``), the seed weights.
"""

from __future__ import annotations

import numpy as np

from harness import plan
from harness.activations import Activations
from harness.datasets import base as datasets
from harness.datasets.batches import make_batch
from harness.errors import SpecError
from harness.models import base as models
from harness.plan import Indices, Step
from harness.record import Rung, Trace
from harness.recorder import Recorder
from harness.referee import network, update
from harness.referee.layers import Gradients, cross_entropy
from harness.spec import Job
from harness.wire import Channel
from harness.wire import Step as StepDone


def fit(job: Job) -> tuple[Trace, ...]:
    """Train the check of a job and return what was observed.

    Raises:
        SpecError: the job is no serial check in float64, injects a fault, or asks for an arrangement of samples or
            sums that the referee does not compute.
    """
    _require(job)
    return _Training(job).check()


def _require(job: Job) -> None:
    """Raise SpecError for what would be computed otherwise than the job says."""
    dtype, arrangement = job.workload.check.dtype, job.arrangement
    refused = {
        "a check of equality, as a referee is not timed,": (job.purpose == "parity", f"purpose={job.purpose!r}"),
        "a single process": (job.world_size == 1, f"world_size={job.world_size}"),
        "float64": (dtype == "float64", f"check.dtype={dtype!r}"),
        "full precision": (job.workload.precision == "full", f"precision={job.workload.precision!r}"),
        "no fault": (job.fault is None, f"fault={job.fault}"),
        "sums in one part and running statistics moved by every group": (
            arrangement.layer_parts == 1 and arrangement.batchnorm != "deferred",
            f"{arrangement}",
        ),
    }
    for expected, (holds, got) in refused.items():
        if not holds:
            raise SpecError(f"the referee: expected {expected} but got {got}; ask torch-serial")


class _Training:
    """A model, its optimizer and its data on the way through one check."""

    def __init__(self, job: Job) -> None:
        self.job, self.workload = job, job.workload
        self.data = datasets.load(self.workload, cache=job.cache, data_root=job.data_root)
        self.network = network.build(self.workload)
        self.sites = models.dropout_sites(self.network.described)
        self.descent = update.Descent(self.workload.optimizer)
        self.recorder = Recorder(job)
        self.activations = Activations(self.recorder, job)
        self.channel = Channel(job.channel, num_epochs=self.workload.epochs)

    def check(self) -> tuple[Trace, ...]:
        """Train the check's steps, recording every rung."""
        self._tap("parameters", -1, self.network.parameters)
        for step in plan.check_steps(self.workload):
            self._tap("buffers at next forward", step.number, self.network.buffers)
            self.activations.begin(step)
            self._train(step)
            self.activations.record()
            self._tap("buffers", step.number, self.network.buffers)
            self._tap("parameters", step.number, self.network.parameters)
            self.channel.send(StepDone(step=step.number))
        self._tap_predictions(self.workload.check.num_steps - 1)
        return self.recorder.traces()

    def _train(self, step: Step) -> None:
        """Train one optimizer step: sums over the groups of every micro-batch, clipping, update."""
        trained: list[Indices] = []
        loss = 0.0
        total = {name: np.zeros_like(self.network.tensors[name]) for name in self.network.trained}
        for micro_batch in step.micro_batches:
            for number, samples in enumerate(plan.arranged(micro_batch, step.number, self.job.arrangement)):
                buffers = {name: self.network.tensors[name] for name in self.network.buffers}
                own, gradients = self._group(step, samples)
                if number and self.job.arrangement.batchnorm == "per-shard":
                    # Of shards that stand for ranks, the first one's running statistics are the model's.
                    self.network.tensors.update(buffers)
                loss += own
                total = {name: value + gradients[name] for name, value in total.items()}
                trained.append(samples)
        self.recorder.data_order(step.number, trained, length=self.workload.check.global_batch)
        self.recorder.tap("loss", step.number, "loss", loss)
        self._tap_gradients("gradients before clipping", step.number, total)
        if self.workload.clip_norm is not None or self.workload.clip_value is not None:
            total = update.clipped(total, self.workload)
            self._tap_gradients("gradients after clipping", step.number, total)
        self.descent.step(self.network.tensors, total, step.learning_rate)
        self._tap_optimizer(step.number)

    def _group(self, step: Step, samples: Indices) -> tuple[float, Gradients]:
        """Return the part of the step's mean loss, and of its gradient, that these samples make."""
        batch = make_batch(self.workload, self.data, samples, step=step.number, dtype="float64", sites=self.sites)
        passes = self.network.forward(batch.images, batch.masks)
        for name, layer in zip(self.network.names, passes, strict=True):
            self.activations.add(name, samples, layer.output)
        losses, derivative = cross_entropy(passes[-1].output, batch.labels)
        return float(losses.sum()) / step.size, self.network.backward(passes, derivative / step.size)

    # -- what is recorded --------------------------------------------------------------------------------------------

    def _tap(self, rung: Rung, step: int, names: tuple[str, ...]) -> None:
        for name in names:
            trainable = rung != "parameters" or name in self.network.trained
            self.recorder.tap(rung, step, name, self.network.tensors[name], trainable=trainable)

    def _tap_gradients(self, rung: Rung, step: int, gradients: Gradients) -> None:
        """Record the gradient of every parameter; one that is not trained has none, which counts as zero."""
        for name in self.network.parameters:
            gradient = gradients.get(name, np.zeros_like(self.network.tensors[name]))
            self.recorder.tap(rung, step, name, gradient, trainable=name in gradients)

    def _tap_optimizer(self, step: int) -> None:
        for name, value in self.descent.moments.items():
            self.recorder.tap("optimizer state", step, name, value)
        if self.workload.optimizer.name != "sgd":
            self.recorder.tap("optimizer state", step, "step", float(self.descent.num_steps))

    def _tap_predictions(self, step: int) -> None:
        limit = self.workload.check.num_held_out
        labels = self.data.held_out_labels[:limit]
        logits = self.network.predict(self.data.held_out_images[:limit].astype(np.float64))
        losses, _ = cross_entropy(logits, labels)
        found = {
            "logits": logits,
            "held-out loss": losses.mean(),
            "held-out hits": np.float64((logits.argmax(axis=1) == labels).sum()),
            "held-out samples": np.float64(len(labels)),
        }
        for name, value in found.items():
            self.recorder.tap("predictions", step, name, value)
