"""Scores of held-out samples, in sums that ranks can add up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.loops.keras_model import Array


class Scores(NamedTuple):
    """What an evaluation of all held-out samples found: mean loss, correct predictions, samples."""

    loss: float
    hits: float
    samples: float


def score(logits: Array, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return [sum of cross-entropies, correct predictions, samples] of logits [n, classes] against labels [n]."""
    values = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    losses = np.log(np.exp(values).sum(axis=1)) - values[np.arange(len(labels)), labels]
    return np.array([losses.sum(), (values.argmax(axis=1) == labels).sum(), len(labels)], np.float64)


def mean_of(sums: NDArray[np.float64]) -> Scores:
    """Return the scores whose sums over all samples these are."""
    loss, hits, samples = sums
    return Scores(loss=loss / samples, hits=hits, samples=samples)
