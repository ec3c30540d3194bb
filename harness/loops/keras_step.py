"""One optimizer step of a Keras model, compiled: serial, or replicated by a tf.distribute strategy.

    for each micro-batch, for each of its groups:   forward -> loss -> gradient, added up
    sum over the replicas                           -> loss, gradients before clipping
    clip by the global norm                         -> gradients after clipping
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


class Piece(NamedTuple):
    """What one forward takes: images [n, c, h, w], labels [n], a mask per dropout, the factor on the sum of losses."""

    images: Any
    labels: Any
    masks: tuple[Any, ...]
    scale: Any


class Observed(NamedTuple):
    """A step as one replica saw it: global mean loss and, if asked for, gradients by parameter (else empty)."""

    loss: Any
    before_clipping: Sequence[Any]
    after_clipping: Sequence[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What a step is compiled for: ``num_groups`` groups in each of ``num_micro_batches`` micro-batches per replica."""

    distribution: Any
    network: Network
    optimizer: Any
    workload: Workload
    dtype: DType
    num_micro_batches: int
    num_groups: int
    batchnorm: BatchNorm
    observe: bool


def compile_step(setting: Setting) -> Replicated:
    """Return ``step(pieces[replica][micro-batch][group]) -> Observed`` of distributed values.

    It is traced once for all sizes of batch.
    """
    workload, distribution = setting.workload, setting.distribution
    piece = Piece(
        images=tf.TensorSpec((None, *workload.shape), setting.dtype),
        labels=tf.TensorSpec((None,), tf.int64),
        masks=tuple(tf.TensorSpec((None, *site.shape), tf.uint8) for site in setting.network.sites),
        scale=tf.TensorSpec((), setting.dtype),
    )
    replica = ((piece,) * setting.num_groups,) * setting.num_micro_batches
    signature = (replica,) * distribution.num_replicas_in_sync

    gradient = partial(_gradient, setting.network)
    if distribution.num_replicas_in_sync == 1 and setting.num_groups * setting.num_micro_batches > 1:
        # Traced and optimised once instead of once per piece, which for eight pieces takes a third of the time.
        # (Replicas average running statistics in the middle of a forward: TensorFlow cannot nest that.)
        once = {"_noinline": True}
        gradient = tf.function(gradient, input_signature=[piece], autograph=False, experimental_attributes=once)

    def step(pieces: Any) -> Any:
        local = distribution.experimental_distribute_values_from_function(
            lambda context: pieces[context.replica_id_in_sync_group]
        )
        return distribution.run(partial(_replica_step, setting, gradient), args=(local,))

    return tf.function(step, input_signature=[signature], autograph=False)  # type: ignore[no-any-return]


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
    variables = [variable.value for variable in setting.network.parameters.values()]
    sums = [_micro_batch(setting, gradient, groups) for groups in micro_batches]
    total = [tf.add_n(list(parts)) for parts in zip(*sums, strict=True)]
    loss, *before = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, total)
    norm = setting.workload.clip_norm
    after = before if norm is None else clip(before, norm)
    setting.optimizer.apply(after, variables)
    if not setting.observe:
        return Observed(loss, [], [])
    return Observed(loss, before, [] if norm is None else after)


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


def _gradient(network: Network, piece: Piece) -> list[Any]:
    variables = [variable.value for variable in network.parameters.values()]
    with tf.GradientTape() as tape:
        logits = network.model([piece.images, *piece.masks], training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(piece.labels, logits)
        loss = tf.reduce_sum(losses) * piece.scale
    return [loss, *tape.gradient(loss, variables)]


def clip(gradients: Sequence[Any], max_norm: float) -> list[Any]:
    """Return the gradients scaled down to a global L2 norm of ``max_norm``, as torch.nn.utils.clip_grad_norm_ does."""
    norm = tf.norm(tf.stack([tf.norm(gradient) for gradient in gradients]))
    factor = tf.minimum(max_norm / (norm + 1e-6), 1.0)
    return [gradient * factor for gradient in gradients]
