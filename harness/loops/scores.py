"""Scores of held-out samples, in sums that ranks can add up, and the trace that a timed training ends with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.record import Trace


class Scores(NamedTuple):
    """What an evaluation of all held-out samples found: mean loss, correct predictions, samples."""

    loss: float
    hits: float
    samples: float


def score(logits: NDArray[np.generic], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return [sum of cross-entropies, correct predictions, samples] of logits [n, classes] against labels [n]."""
    values = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    losses = np.log(np.exp(values).sum(axis=1)) - values[np.arange(len(labels)), labels]
    return np.array([losses.sum(), (values.argmax(axis=1) == labels).sum(), len(labels)], np.float64)


def mean_of(sums: NDArray[np.float64]) -> Scores:
    """Return the scores whose sums over all samples these are."""
    loss, hits, samples = sums
    return Scores(loss=loss / samples, hits=hits, samples=samples)


def timed_trace(rank: int, losses: Sequence[float], scores: Scores, peak_memory_bytes: int | None) -> tuple[Trace, ...]:
    """Return what a timed training reports: mean loss of every epoch, held-out accuracy, peak memory in bytes."""
    return (
        Trace(
            rank=rank,
            losses=tuple(losses),
            accuracy=float(scores.hits / scores.samples),
            num_held_out=int(scores.samples),
            peak_memory_bytes=peak_memory_bytes,
        ),
    )
