"""The one Keras training loop that every TensorFlow strategy borrows: serial, or replicated by what it is handed.

Keras 3 on TensorFlow; the step itself is in ``keras_step``. A process observes every replica it drives as a rank.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from harness import plan
from harness.activations import Activations
from harness.datasets import base as datasets
from harness.datasets.batches import make_batch
from harness.errors import SpecError
from harness.faults.base import Seams
from harness.fuzz import Shaker
from harness.loops import keras_activations, keras_model, keras_optimizer, keras_step
from harness.loops.keras_model import Array, canonical
from harness.loops.keras_parallelism import SERIAL, Parallelism, load, save
from harness.loops.keras_seams import Dials, Striker, of_replica
from harness.loops.keras_settings import claim_devices, drain, fix_arithmetic, peak_memory
from harness.loops.keras_step import Piece
from harness.loops.scores import Scores, mean_of, score, timed_trace
from harness.loops.stopwatch import Mark, Stopwatch, unmarked
from harness.models import base as models
from harness.plan import Indices, Step
from harness.record import Rung, Trace
from harness.recorder import Recorder
from harness.spec import Job, Leg
from harness.wire import Channel, EpochDone
from harness.wire import Step as StepDone

__all__ = ["SERIAL", "Parallelism", "fit"]

Share = list[list[Indices]]

_EVALUATION_BATCH = 512


def fit(job: Job, parallelism: Parallelism = SERIAL) -> tuple[Trace, ...]:
    """Train what the job says and return what was observed, a trace per replica (one in all for timings).

    Args:
        job: what to run; ``purpose`` decides between the short equality check and timed epochs. ``world_size`` is the
            number of replicas of all processes; ``arrangement`` applies to a single one.
        parallelism: how the strategy departs from serial training.

    Raises:
        SpecError: a replica or shard would be left without the samples it needs, or the fault cannot strike here.
        MissingRequirementError: there are fewer GPUs than replicas.
    """
    training = _Training(job, parallelism)
    return training.check() if job.purpose == "parity" else training.run_timed()


class _Training:
    """A model, its optimizer and its data on the way through one job."""

    def __init__(self, job: Job, parallelism: Parallelism) -> None:
        self.job, self.workload, self.parallelism = job, job.workload, parallelism
        self.dtype = self.workload.check.dtype if job.purpose == "parity" else self.workload.dtype
        self.devices = claim_devices(job, parallelism.num_replicas(job))
        fix_arithmetic(job, self.dtype)
        self.data = datasets.load(self.workload, cache=job.cache, data_root=job.data_root)
        self.ranks = range(job.rank, job.rank + len(self.devices))
        self.seams = tuple(of_replica(job, rank) for rank in self.ranks)
        _require_enough_samples(job, len(self.data.labels))
        distribute = parallelism.distribute
        distribution = tf.distribute.get_strategy() if distribute is None else distribute(self.devices)
        with nullcontext() if distribute is None else distribution.scope():
            self.network = keras_model.build(self.workload, self.dtype, job.rank)
            self.optimizer = parallelism.wrap_optimizer(keras_optimizer.create(self.workload.optimizer))
            self.optimizer.build([variable.value for variable in self.network.trained.values()])
        parallelism.broadcast([variable.value for variable in self.network.model.variables])
        self.local = distribution.experimental_local_results
        self.striker = Striker(self.seams, tuple(self.network.trained))
        self.striker.change_weights(self.network.parameters, self.local)
        # All replicas of a process share one optimizer: what strikes that of the first strikes them all.
        self.dials = Dials(self.optimizer)
        self.dials.turn(self.seams[0].optimizer)
        self.shaker = Shaker(job)
        self.recorder = Recorder(job)
        self.activations = Activations(self.recorder, job)
        self.channel = Channel(job.channel, num_epochs=self.workload.epochs)
        setting = keras_step.Setting(
            distribution=distribution,
            reduce=parallelism.reduce,
            num_replicas=len(self.devices),
            network=self.network,
            optimizer=self.optimizer,
            workload=self.workload,
            dtype=self.dtype,
            num_micro_batches=self.workload.accumulation,
            num_groups=job.arrangement.shards,
            batchnorm=job.arrangement.batchnorm,
            observe=self.recorder.on,
            change=self.striker.change,
        )
        self.step, self.forward = keras_step.compile_step(setting), keras_step.compile_forward(setting)
        self.sum = keras_step.compile_sum(setting)
        self.mark: Mark = unmarked
        self.rate: float | None = None

    # -- one step ----------------------------------------------------------------------------------------------------

    def train_step(self, step: Step) -> Any:
        """Train one optimizer step; return what each replica saw, as an Observed of distributed values."""
        self.shaker.pause("step")
        self.striker.begin(step.number)
        self._set_optimizer(step)
        self.mark("optimizer")
        shares = [self._share(step, replica) for replica in range(len(self.devices))]
        self._tap_data_order(step.number, shares)
        pieces = tuple(self._pieces(step, share, replica) for replica, share in enumerate(shares))
        self.mark("data")
        observed = self.step(pieces)
        self.mark("step")
        return observed

    def _set_optimizer(self, step: Step) -> None:
        """Set the step's learning rate where it is another one, as TensorFlow takes up to a millisecond for it."""
        if self.job.fault is not None:
            self.optimizer.learning_rate.assign(step.learning_rate)
            self.dials.turn(partial(self.seams[0].before_update, step.number))
        elif step.learning_rate != self.rate:
            self.optimizer.learning_rate.assign(step.learning_rate)
        self.rate = step.learning_rate

    def _share(self, step: Step, replica: int) -> Share:
        """Return what a replica trains in a step: sample indices by micro-batch and group."""
        change = self.seams[replica].samples
        if self.job.world_size > 1:
            rank, world_size = self.ranks[replica], self.job.world_size
            return [
                [change(step, plan.shard(micro_batch, rank, world_size), micro_batch)]
                for micro_batch in step.micro_batches
            ]
        return [
            [
                change(step, group, micro_batch)
                for group in plan.arranged(micro_batch, step.number, self.job.arrangement)
            ]
            for micro_batch in step.micro_batches
        ]

    def _pieces(self, step: Step, share: Share, replica: int) -> tuple[tuple[Piece, ...], ...]:
        with tf.device(self.devices[replica]):
            return tuple(tuple(self._piece(step, samples, replica) for samples in groups) for groups in share)

    def _piece(self, step: Step, samples: Indices, replica: int) -> Piece:
        batch = make_batch(
            self.workload, self.data, samples, step=step.number, dtype=self.dtype, sites=self.network.sites
        )
        batch = self.seams[replica].batch(step, batch)
        # Faults are written for ranks that average their gradients; replicas add theirs.
        world_size = self.job.world_size
        scale = self.seams[replica].loss_scale(step, len(samples), world_size / step.size) / world_size
        return Piece(
            images=tf.constant(batch.images),
            labels=tf.constant(batch.labels, tf.int64),
            masks=tuple(tf.constant(mask) for mask in batch.masks),
            scale=tf.constant(scale, self.dtype),
        )

    # -- the equality check ------------------------------------------------------------------------------------------

    def check(self) -> tuple[Trace, ...]:
        """Train the check's steps (those of the job's leg), recording every rung."""
        leg = self.job.leg or Leg(first=0, last=self.workload.check.num_steps)
        if leg.load:
            load(self.network.model, self.optimizer, Path(leg.load))
            self.dials.turn(partial(self.seams[0].loaded, self.network.model))
        self._tap_parameters(leg.first - 1)
        for step in itertools.islice(plan.check_steps(self.workload), leg.first, leg.last):
            if self.job.rank == 0:
                # Only replica 0's running statistics are the model's.
                self._tap_variables("buffers at next forward", step.number, self.network.buffers, num_replicas=1)
            self._tap_activations(step)
            self._tap_observed(step.number, self.train_step(step))
            self._tap_optimizer(step.number)
            self._tap_parameters(step.number)
            self._tap_variables("buffers", step.number, self.network.buffers)
            self.channel.send(StepDone(step=step.number))
        if leg.save:
            save(self.network.model, self.optimizer, Path(leg.save), self.job)
        else:
            self._tap_predictions(leg.last - 1)
        return self.recorder.traces()

    def _tap_activations(self, step: Step) -> None:
        """Record what the layers put out for the step's first micro-batch, in forwards of their own."""
        self.activations.begin(step)
        if self.activations.wanted:
            for samples in self._share(step, 0)[0]:
                piece = self._piece(step, samples, 0)
                for name, output in keras_activations.outputs(self.network, piece.images, piece.masks):
                    self.activations.add(name, samples, output)
        self.activations.record()

    def _tap_predictions(self, step: int) -> None:
        limit = self.workload.check.num_held_out
        logits = self._logits(limit)
        scores = self._scores(logits)._asdict()
        # Replicas keep running statistics of their own, so only replica 0 predicts what a saved model would.
        for replica, values in enumerate(logits):
            if not self.network.buffers or self.ranks[replica] == 0:
                self._tap("predictions", step, "logits", values, replica)
                for name, value in scores.items():
                    self._tap("predictions", step, f"held-out {name}", value, replica)

    def _scores(self, logits: Sequence[Array]) -> Scores:
        """Return loss, hits and number of the held-out samples from each replica's logits of all of them.

        Each replica adds its share, replica 0 everything where the others have running statistics of their own.
        """
        shares = np.arange(len(logits[0]))
        own = [plan.shard(shares, rank, self.job.world_size) for rank in self.ranks]
        if self.network.buffers:
            own = [shares if rank == 0 else shares[:0] for rank in self.ranks]
        own = [_held_out(part, seams, len(shares)) for part, seams in zip(own, self.seams, strict=True)]
        labels = self.data.held_out_labels
        sums = [score(values[part], labels[part]) for values, part in zip(logits, own, strict=True)]
        return mean_of(self.local(self.sum(tuple(map(tf.constant, sums))))[0].numpy())

    def _tap(self, rung: Rung, step: int, name: str, value: Any, replica: int, *, trainable: bool = True) -> None:
        self.recorder.tap(rung, step, name, value, rank=self.ranks[replica], trainable=trainable)

    def _tap_variables(self, rung: Rung, step: int, variables: dict[str, Any], num_replicas: int | None = None) -> None:
        for name, variable in variables.items():
            for replica, local in enumerate(self.local(variable.value)[:num_replicas]):
                trainable = variable.trainable or rung != "parameters"
                self._tap(rung, step, name, canonical(local), replica, trainable=trainable)

    def _tap_data_order(self, step: int, shares: Sequence[Share]) -> None:
        if not self.recorder.on:
            return
        for replica, share in enumerate(shares):
            trained = [group for groups in share for group in groups]
            length = self.workload.check.global_batch
            self.recorder.data_order(step, trained, length=length, rank=self.ranks[replica])

    def _tap_observed(self, step: int, observed: Any) -> None:
        for replica, seen in enumerate(self.local(observed)):
            self._tap("loss", step, "loss", seen.loss, replica)
            rungs: tuple[tuple[Rung, Any], ...] = (
                ("gradients before clipping", seen.before_clipping),
                ("gradients after clipping", seen.after_clipping),
            )
            for rung, gradients in rungs:
                # A workload that does not clip has no gradients after clipping.
                received = dict(zip(self.network.trained, gradients, strict=False))
                for name, variable in self.network.parameters.items() if received else ():
                    # One that is not trained has none, which counts as zero.
                    gradient = received.get(name, np.zeros(variable.shape))
                    self._tap(rung, step, name, canonical(gradient), replica, trainable=name in received)

    def _tap_parameters(self, step: int) -> None:
        self._tap_variables("parameters", step, self.network.parameters)

    def _tap_optimizer(self, step: int) -> None:
        for index, name in enumerate(self.network.trained):
            state = {f"{kind}:{name}": value for kind, value in keras_optimizer.state(self.optimizer, index)}
            self._tap_variables("optimizer state", step, state)
        count = keras_optimizer.num_updates(self.optimizer)
        for replica, local in enumerate(self.local(count.value) if count is not None else ()):
            self._tap("optimizer state", step, "step", np.float64(local.numpy()), replica)

    def _logits(self, limit: int) -> list[Array]:
        """Return held-out logits as each replica computes them, shape (min(limit, held-out samples), classes)."""
        images = self.data.held_out_images[:limit].astype(self.dtype)
        starts = range(0, len(images), _EVALUATION_BATCH)
        batches = [self.local(self.forward(tf.constant(images[start : start + _EVALUATION_BATCH]))) for start in starts]
        return [np.concatenate(parts) for parts in zip(*batches, strict=True)]

    # -- timed epochs ------------------------------------------------------------------------------------------------

    def run_timed(self) -> tuple[Trace, ...]:
        """Train an epoch whenever it is this training's turn; evaluate what those that are timed have trained."""
        losses: list[float] = []
        watch = Stopwatch()
        self.mark = watch.mark
        traces: tuple[Trace, ...] = ()
        number, num_samples = 0, len(self.data.labels)
        for epoch, turn in enumerate(iter(self.channel.turn, None)):
            if turn.profile:
                traces = traces or self._told(losses)
            steps = plan.epoch_steps(self.workload, epoch, num_samples, self.workload.global_batch, number)
            number += len(steps)
            drain(self.devices)
            self.parallelism.barrier()
            watch.start(stamped=turn.parts)
            observed = [self.train_step(step) for step in steps]
            drain(self.devices)
            # Until now a device may have been busy with the last steps.
            watch.mark("step")
            done = watch.stop(num_samples)
            losses.append(sum(float(self.local(step)[0].loss) for step in observed) / len(steps))
            self.channel.send(EpochDone(epoch=done))
        return traces or self._told(losses)

    def _told(self, losses: Sequence[float]) -> tuple[Trace, ...]:
        scores = self._scores(self._logits(len(self.data.held_out_labels)))
        return timed_trace(self.job.rank, losses, scores, peak_memory(self.job, self.devices))


def _held_out(part: Indices, seams: Seams, num_samples: int) -> Indices:
    """Return which held-out samples a replica evaluates, given its consecutive share of them."""
    own = seams.held_out(slice(int(part[0]), int(part[-1]) + 1) if len(part) else slice(0, 0), num_samples)
    return np.arange(own.start, own.stop)


def _require_enough_samples(job: Job, num_samples: int) -> None:
    """Raise unless every replica and shard gets a sample of every micro-batch, or two where a batch norm needs them."""
    workload, check = job.workload, job.workload.check
    parity = job.purpose == "parity"
    smallest = plan.smallest_shard(
        workload,
        job.world_size * job.arrangement.shards,
        batch=check.global_batch if parity else workload.global_batch,
        num_samples=check.num_samples if parity else num_samples,
        split=job.arrangement.split,
    )
    needed = 2 if models.has_batchnorm(models.layers(workload)) else int(job.world_size > 1)
    if smallest < needed:
        raise SpecError(
            f"expected at least {needed} sample(s) per replica or shard in every micro-batch but workload "
            f"{workload.name!r} leaves {smallest} to one of {job.world_size * job.arrangement.shards} "
            f"(accumulation {workload.accumulation}); enlarge the batch, choose a number of samples that leaves a "
            "larger last batch, or use fewer ranks"
        )
