"""One optimizer step of a Keras model, compiled: serial, or replicated by a tf.distribute strategy.

    for each micro-batch, for each of its groups:   forward -> loss -> gradient, added up
    sum over the replicas                           -> loss, gradients before clipping
    clip by the global norm, or by value            -> gradients after clipping
    optimizer.apply                                 each replica updates its copy

Clipping sits between the sum and ``apply`` because Keras's own ``global_clipnorm`` would clip each replica's gradients
before they are summed, which is other maths than a serial run's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from harness.loops.keras_model import Network
from harness.spec import BatchNorm, DType, Workload

Replicated = Callable[[Any], Any]
# Where the PyTorch loop's loss scaler starts, too.
LOSS_SCALE = 2.0**10


class Piece(NamedTuple):
    """What one forward takes: images [n, c, h, w], labels [n], a mask per dropout, the factor on the sum of losses."""

    images: Any
    labels: Any
    masks: tuple[Any, ...]
    scale: Any


class Observed(NamedTuple):
    """A step as one replica saw it: global mean loss and, if asked for, gradients by trained parameter (else empty)."""

    loss: Any
    before_clipping: Sequence[Any]
    after_clipping: Sequence[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What a step is compiled for: ``num_groups`` groups in each of ``num_micro_batches`` micro-batches per replica.

    ``num_replicas`` counts those of this process; ``reduce`` sums tensors over the replicas of all processes;
    ``change`` returns the gradients of a seam as a fault leaves them.
    """

    distribution: Any
    reduce: Callable[[Sequence[Any]], Sequence[Any]]
    num_replicas: int
    network: Network
    optimizer: Any
    workload: Workload
    dtype: DType
    num_micro_batches: int
    num_groups: int
    batchnorm: BatchNorm
    observe: bool
    change: Callable[[str, Sequence[Any]], Sequence[Any]] = lambda _seam, gradients: gradients

    @property
    def loss_scale(self) -> float:
        """What keeps float16 gradients from vanishing; fixed, since the short check needs no other."""
        return LOSS_SCALE if self.workload.precision == "fp16" else 1.0


def compile_step(setting: Setting) -> Replicated:
    """Return ``step(pieces[replica][micro-batch][group]) -> Observed`` of distributed values.

    It is traced once for all sizes of batch.
    """
    distribution = setting.distribution
    piece, replica = _signature(setting)
    signature = (replica,) * setting.num_replicas

    gradient = partial(_gradient, setting)
    if distribution.num_replicas_in_sync == 1 and setting.num_groups * setting.num_micro_batches > 1:
        # Traced and optimised once instead of once per piece, which for eight pieces takes a third of the time.
        # (Replicas average running statistics in the middle of a forward: TensorFlow cannot nest that.)
        once = {"_noinline": True}
        gradient = tf.function(gradient, input_signature=[piece], autograph=False, experimental_attributes=once)

    def step(pieces: Any) -> Any:
        return distribution.run(partial(_replica_step, setting, gradient), args=(_by_replica(setting, pieces),))

    return tf.function(step, input_signature=[signature], autograph=False)  # type: ignore[no-any-return]


def compile_own_step(setting: Setting) -> Replicated:
    """Return ``step(pieces[micro-batch][group]) -> loss`` for a worker that updates the parameters by itself."""

    def step(pieces: Any) -> Any:
        observed = setting.distribution.run(partial(_replica_step, setting, partial(_gradient, setting)), (pieces,))
        return observed.loss

    return tf.function(step, input_signature=[_signature(setting)[1]], autograph=False)  # type: ignore[no-any-return]


def _signature(setting: Setting) -> tuple[Piece, tuple[tuple[Piece, ...], ...]]:
    """Return the types of one piece, and of all that one replica trains in a step."""
    piece = Piece(
        images=tf.TensorSpec((None, *setting.workload.shape), setting.dtype),
        labels=tf.TensorSpec((None,), tf.int64),
        masks=tuple(tf.TensorSpec((None, *site.shape), tf.uint8) for site in setting.network.sites),
        scale=tf.TensorSpec((), setting.dtype),
    )
    return piece, ((piece,) * setting.num_groups,) * setting.num_micro_batches


def compile_sum(setting: Setting) -> Replicated:
    """Return ``sum(values[replica]) -> sums over all replicas``, float64 vectors of any length."""

    def total(values: Any) -> Any:
        # The identity gives a value its device, without which a collective over processes has no destination.
        own = _by_replica(setting, values)
        return setting.distribution.run(lambda value: setting.reduce([tf.identity(value)])[0], args=(own,))

    signature = [(tf.TensorSpec((None,), tf.float64),) * setting.num_replicas]
    return tf.function(total, input_signature=signature, autograph=False)  # type: ignore[no-any-return]


def _by_replica(setting: Setting, values: Sequence[Any]) -> Any:
    """Return a distributed value from one for each replica of this process; replicas are counted over all processes."""
    return setting.distribution.experimental_distribute_values_from_function(
        lambda context: values[context.replica_id_in_sync_group % setting.num_replicas]
    )


def compile_forward(setting: Setting) -> Replicated:
    """Return ``forward(images) -> logits`` in evaluation mode, computed by every replica on the same images."""
    network, dtype = setting.network, setting.dtype
    # Nothing is dropped in evaluation; the model only wants an array in each mask's place.
    masks = [tf.zeros((0, *site.shape), tf.uint8) for site in network.sites]

    def forward(images: Any) -> Any:
        return setting.distribution.run(lambda: network.model([images, *masks], training=False))

    signature = [tf.TensorSpec((None, *setting.workload.shape), dtype)]
    return tf.function(forward, input_signature=signature, autograph=False)  # type: ignore[no-any-return]


def _replica_step(setting: Setting, gradient: Replicated, micro_batches: Sequence[Sequence[Piece]]) -> Observed:
    sums = [_micro_batch(setting, gradient, groups) for groups in micro_batches]
    total = [tf.add_n(list(parts)) for parts in zip(*sums, strict=True)]
    own_loss, *own = total
    loss, *scaled = setting.reduce([own_loss, *setting.change("local_gradients", own)])
    before = [value / setting.loss_scale for value in scaled] if setting.loss_scale != 1 else scaled
    before = list(setting.change("gradients", before))
    after = clip(before, setting.workload)
    if after is not before:
        after = setting.change("clipped", after)
    setting.optimizer.apply(after, [variable.value for variable in setting.network.trained.values()])
    if not setting.observe:
        return Observed(loss, [], [])
    return Observed(loss, before, [] if after is before else after)


def _micro_batch(setting: Setting, gradient: Replicated, groups: Sequence[Piece]) -> list[Any]:
    """Return [loss, gradient, ...] of one micro-batch, its groups added up.

    Groups stand for the ranks of a parallel run: each starts from the same running statistics, and what the first one
    makes of them is kept (or all of it, one after the other, as a pipeline does).
    """
    buffers = [variable.value for variable in setting.network.buffers.values()]
    start = _read(buffers)
    parts: list[list[Any]] = []
    ends: list[list[Any]] = []
    for piece in groups:
        if ends and setting.batchnorm == "per-shard":
            _write(buffers, start)
        parts.append(gradient(piece))
        ends.append(_read(buffers))
    if len(groups) > 1:
        _write(buffers, ends[0] if setting.batchnorm == "per-shard" else ends[-1])
    return [tf.add_n(list(values)) for values in zip(*parts, strict=True)]


def _read(buffers: Sequence[Any]) -> list[Any]:
    return [tf.identity(buffer) for buffer in buffers]


def _write(buffers: Sequence[Any], values: Sequence[Any]) -> None:
    for buffer, value in zip(buffers, values, strict=True):
        buffer.assign(value)


def _gradient(setting: Setting, piece: Piece) -> list[Any]:
    variables = [variable.value for variable in setting.network.trained.values()]
    with tf.GradientTape() as tape:
        logits = tf.cast(setting.network.model([piece.images, *piece.masks], training=True), setting.dtype)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(piece.labels, logits)
        loss = tf.reduce_sum(losses) * piece.scale
        scaled = loss * setting.loss_scale
    return [loss, *tape.gradient(scaled, variables)]


def clip(gradients: Sequence[Any], workload: Workload) -> Sequence[Any]:
    """Return the gradients clipped as torch.nn.utils.clip_grad_norm_ or clip_grad_value_ would, or as they are."""
    if workload.clip_value is not None:
        return [tf.clip_by_value(gradient, -workload.clip_value, workload.clip_value) for gradient in gradients]
    if workload.clip_norm is None:
        return gradients
    norm = tf.norm(tf.stack([tf.norm(gradient) for gradient in gradients]))
    factor = tf.minimum(workload.clip_norm / (norm + 1e-6), 1.0)
    return [gradient * factor for gradient in gradients]
