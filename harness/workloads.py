"""Workloads by name: the ones that ship, and the user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.registry import Registry, where
from harness.spec import Optimizer, Schedule, Workload

Suite = Literal["smoke", "conformance", "performance"]
Describe = Callable[[], Workload]


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """A registered workload: what it is, the suites that run it unasked, and the file that declares it."""

    workload: Workload
    suites: tuple[Suite, ...]
    where: str
    needs_data: bool


_registry: Registry[Declared] = Registry("workload", by_address=False)


def workload(*suites: Suite, needs_data: bool = False) -> Callable[[Describe], Describe]:
    """Register the workload that the decorated function returns.

    Args:
        suites: the suites that run it unasked; none means only when asked for by name.
        needs_data: it reads files below ``--ls-data-root``.

    Raises:
        DuplicateNameError: another function declares the name; both are named.
    """

    def register(describe: Describe) -> Describe:
        described = describe()
        declared = Declared(workload=described, suites=suites, where=where(describe), needs_data=needs_data)
        _registry.register(described.name, declared, describe)
        return describe

    return register


def workloads() -> dict[str, Declared]:
    """Return every registered workload by name."""
    return _registry.all()


def get(name: str) -> Workload:
    """Return workload ``name``; raise UnknownNameError with the nearest names."""
    return _registry.get(name).workload


SGD = Optimizer(name="sgd", learning_rate=0.05, momentum=0.9)
ADAMW = Optimizer(name="adamw", learning_rate=1e-3, weight_decay=0.01)
HALVED_EACH_EPOCH = Schedule(gamma=0.5)
DECAYED = Schedule(gamma=0.8)


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
