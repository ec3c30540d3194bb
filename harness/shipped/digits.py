"""The everyday workloads, on the handwritten digits that ship inside scikit-learn."""

from __future__ import annotations

from harness.shipped.common import ADAMW, DECAYED, HALVED_EACH_EPOCH, SGD
from harness.spec import Optimizer, Schedule, Workload
from harness.workloads import workload


@workload("smoke", "conformance")
def digits_mlp() -> Workload:
    """Two hidden layers, SGD with momentum, a learning rate that changes every epoch."""
    return Workload(name="digits-mlp", model="mlp", dataset="digits", optimizer=SGD, schedule=DECAYED)


@workload("conformance", "performance")
def digits_cnn() -> Workload:
    """A small convolutional network: the everyday case, and the one that is timed."""
    return Workload(
        name="digits-cnn",
        model="simple-cnn",
        dataset="digits",
        optimizer=SGD,
        schedule=Schedule(gamma=0.9),
        global_batch=128,
        epochs=10,
    )


@workload("conformance")
def digits_cnn_accumulated() -> Workload:
    """Gradient accumulation and L2 weight decay."""
    return Workload(
        name="digits-cnn-accumulated",
        model="simple-cnn",
        dataset="digits",
        optimizer=Optimizer(name="sgd", learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
        schedule=HALVED_EACH_EPOCH,
        accumulation=2,
    )


@workload("conformance")
def digits_cnn_adamw_clipped() -> Workload:
    """AdamW behind gradient clipping, dropout and augmentation: where scale errors hide from the parameters."""
    return Workload(
        name="digits-cnn-adamw-clipped",
        model="simple-cnn",
        dataset="digits",
        optimizer=ADAMW,
        schedule=HALVED_EACH_EPOCH,
        clip_norm=0.5,
        dropout=0.25,
        augment="shift",
    )


@workload("conformance")
def digits_mnist_cnn() -> Workload:
    """Batch norm and dropout: 906,186 parameters."""
    return Workload(
        name="digits-mnist-cnn", model="mnist-cnn", dataset="digits", optimizer=SGD, schedule=DECAYED, dropout=0.25
    )
