"""Training with a parameter server: workers update the variables it holds whenever they are done, in any order.

    rank 0      coordinator, parameter server and worker 0: hands out every share of every step, joins at epochs' ends
    rank r      worker r: a gRPC server that computes what it is sent, until all ranks have finished

Each worker trains on the mean over its own share of a batch, so that a batch is W updates instead of one. Momentum m
becomes m^(1/W), so that it forgets as much in a batch, and the learning rate falls by W and by (1 - m) / (1 - m^(1/W)):
summed up, a batch then moves the parameters as far as one update by its mean.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import tensorflow as tf

from harness import plan
from harness.datasets import base as datasets
from harness.datasets.batches import make_batch
from harness.loops import keras_model, keras_optimizer, keras_step
from harness.loops.keras_settings import claim_devices, fix_arithmetic, peak_memory
from harness.loops.keras_step import Piece
from harness.loops.scores import Scores, mean_of, score, timed_trace
from harness.loops.stopwatch import Mark, Stopwatch, unmarked
from harness.plan import Indices, Step
from harness.record import Trace
from harness.recorder import Recorder
from harness.spec import Job, Optimizer
from harness.timings import Epoch
from harness.wire import Channel, EpochDone
from harness.wire import Step as StepDone

_EVALUATION_BATCH = 512


def fit(job: Job) -> tuple[Trace, ...]:
    """Train what the job says; rank 0 observes, the others serve it. TF_CONFIG says where they listen."""
    devices = claim_devices(job, 1)
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec()
    _serve(job, cluster, "worker", job.rank)
    if job.rank:
        return _follow(job)
    _serve(job, cluster, "ps", 0)
    training = _Coordinator(job, cluster, devices)
    return training.check() if job.purpose == "parity" else training.run_timed()


def _serve(job: Job, cluster: Any, task: str, index: int) -> None:
    """Start a gRPC server in threads of this process; it ends with it, after all other ranks have finished."""
    config = tf.compat.v1.ConfigProto(
        inter_op_parallelism_threads=job.world_size + 1, intra_op_parallelism_threads=job.num_threads
    )
    server = tf.distribute.Server(cluster, job_name=task, task_index=index, protocol="grpc", config=config)
    # TensorFlow stops a server that nobody refers to.
    _SERVERS.append(server)


_SERVERS: list[Any] = []


def _follow(job: Job) -> tuple[Trace, ...]:
    """Take the turns of a timed training, whose epochs the coordinator measures."""
    channel = Channel(job.channel, num_epochs=job.workload.epochs)
    while job.purpose == "timing" and channel.turn():
        now_s = time.monotonic()
        channel.send(EpochDone(epoch=Epoch(start_s=now_s, end_s=now_s, num_samples=0)))
    return (Trace(rank=job.rank),)


def _silent(step: Any, losses: Any) -> Any:
    """Return the step as a function that adds its loss to a variable instead of returning it.

    What a scheduled function returns is copied from the worker by threads of the coordinator, which now and then ends
    in a segmentation fault (TensorFlow 2.21).
    """

    def counted(pieces: Any) -> None:
        losses.assign_add(step(pieces))

    return tf.function(counted, input_signature=step.input_signature, autograph=False)


class _Coordinator:
    """A model on the parameter server and the one who hands out its training."""

    def __init__(self, job: Job, cluster: Any, devices: tuple[str, ...]) -> None:
        self.job, self.workload, self.devices = job, job.workload, devices
        self.dtype = self.workload.check.dtype if job.purpose == "parity" else self.workload.dtype
        fix_arithmetic(job, self.dtype)
        self.data = datasets.load(self.workload, cache=job.cache, data_root=job.data_root)
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, rpc_layer="grpc")
        distribution = tf.distribute.ParameterServerStrategy(resolver)
        self.coordinator = tf.distribute.coordinator.ClusterCoordinator(distribution)
        with distribution.scope():
            self.network = keras_model.build(self.workload, self.dtype)
            self.optimizer = keras_optimizer.create(self._by_worker())
            self.optimizer.build([variable.value for variable in self.network.trained.values()])
        setting = keras_step.Setting(
            distribution=distribution,
            reduce=lambda values: values,
            num_replicas=1,
            network=self.network,
            optimizer=self.optimizer,
            workload=self.workload,
            dtype=self.dtype,
            num_micro_batches=self.workload.accumulation,
            num_groups=1,
            batchnorm="plain",
            observe=False,
        )
        with distribution.scope():
            self.losses = tf.Variable(0, trainable=False, dtype=self.dtype)
        self.step = _silent(keras_step.compile_own_step(setting), self.losses)
        self.mark: Mark = unmarked
        self.recorder = Recorder(job)
        self.channel = Channel(job.channel, num_epochs=self.workload.epochs)

    def _by_worker(self) -> Optimizer:
        """Return the optimizer for updates by one worker's share."""
        settings = self.workload.optimizer
        return msgspec.structs.replace(settings, momentum=settings.momentum ** (1 / self.job.world_size))

    def train(self, steps: Iterable[Step]) -> float:
        """Hand out the shares of some steps of one learning rate and wait for all; return the shares' mean loss."""
        num_shares = 0
        self.losses.assign(0)
        for step in steps:
            before, after = self.workload.optimizer.momentum, self._by_worker().momentum
            self.optimizer.learning_rate.assign(step.learning_rate / self.job.world_size * (1 - after) / (1 - before))
            shares = [self._share(step, rank) for rank in range(self.job.world_size)]
            trained = [samples for share in shares for samples in share]
            self.recorder.data_order(step.number, trained, length=self.workload.check.global_batch)
            for share in shares:
                pieces = self._pieces(step, share)
                self.mark("data")
                self.coordinator.schedule(self.step, args=(pieces,))
                self.mark("step")
            num_shares += len(shares)
            self.channel.send(StepDone(step=step.number))
        self.coordinator.join()
        self.mark("step")
        return float(self.losses.numpy()) / num_shares

    def _share(self, step: Step, rank: int) -> list[Indices]:
        return [plan.shard(samples, rank, self.job.world_size) for samples in step.micro_batches]

    def _pieces(self, step: Step, share: list[Indices]) -> tuple[tuple[Piece, ...], ...]:
        num_samples = sum(map(len, share))
        return tuple((self._piece(step, samples, num_samples),) for samples in share)

    def _piece(self, step: Step, samples: Indices, num_samples: int) -> Piece:
        batch = make_batch(
            self.workload, self.data, samples, step=step.number, dtype=self.dtype, sites=self.network.sites
        )
        return Piece(
            images=tf.constant(batch.images),
            labels=tf.constant(batch.labels, tf.int64),
            masks=tuple(tf.constant(mask) for mask in batch.masks),
            scale=tf.constant(1 / num_samples, self.dtype),
        )

    def check(self) -> tuple[Trace, ...]:
        """Train the check's steps, epoch after epoch, and show what the model on the server then predicts."""
        steps = list(plan.check_steps(self.workload))
        for epoch in range(steps[-1].epoch + 1):
            self.train(step for step in steps if step.epoch == epoch)
        logits = self._logits(self.workload.check.num_held_out)
        self.recorder.tap("predictions", steps[-1].number, "logits", logits)
        for name, value in self._scores(logits)._asdict().items():
            self.recorder.tap("predictions", steps[-1].number, f"held-out {name}", value)
        return self.recorder.traces()

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
            watch.start(stamped=turn.parts)
            losses.append(self.train(steps))
            self.channel.send(EpochDone(epoch=watch.stop(num_samples)))
        return traces or self._told(losses)

    def _told(self, losses: Sequence[float]) -> tuple[Trace, ...]:
        scores = self._scores(self._logits(len(self.data.held_out_labels)))
        return timed_trace(self.job.rank, losses, scores, peak_memory(self.job, self.devices))

    def _logits(self, limit: int) -> keras_model.Array:
        images = self.data.held_out_images[:limit].astype(self.dtype)
        parts = [images[start : start + _EVALUATION_BATCH] for start in range(0, len(images), _EVALUATION_BATCH)]
        masks = [tf.zeros((0, *site.shape), tf.uint8) for site in self.network.sites]
        batches = [[tf.constant(part), *masks] for part in parts]
        return np.concatenate([self.network.model(batch, training=False).numpy() for batch in batches])

    def _scores(self, logits: keras_model.Array) -> Scores:
        return mean_of(score(logits, self.data.held_out_labels[: len(logits)]))
