"""Workloads on other data: seeded random images, and MNIST from its own files."""

from __future__ import annotations

from harness.shipped.common import ADAMW, DECAYED, SGD
from harness.spec import Workload
from harness.workloads import workload


@workload("conformance")
def synthetic_mlp() -> Workload:
    """Seeded random images: needs no data at all."""
    return Workload(
        name="synthetic-mlp",
        model="mlp",
        dataset="synthetic",
        optimizer=ADAMW,
        num_samples=512,
        shape=(3, 16, 16),
        num_classes=7,
    )


@workload("conformance", needs_data=True)
def mnist_cnn() -> Workload:
    """The network of digits-mnist-cnn on MNIST's own files."""
    return Workload(
        name="mnist-cnn",
        model="mnist-cnn",
        dataset="mnist",
        optimizer=SGD,
        schedule=DECAYED,
        dropout=0.25,
        global_batch=256,
        epochs=3,
    )
