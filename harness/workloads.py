"""Workloads by name: the ones that ship, and the user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from harness.errors import DuplicateNameError, SpecError
from harness.registry import Registry, where
from harness.spec import Check, Optimizer, Schedule, Value, Workload

Suite = Literal["smoke", "conformance", "performance"]
Describe = Callable[[], Workload]
# Where a workload is declared that only a command line describes.
COMMAND_LINE = "--ls-workload"


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


def described(text: str) -> Workload:
    """Register the workload that a JSON object describes, and return it; what it leaves out has its default.

    Raises:
        SpecError: no JSON object, or not one that describes a workload.
        DuplicateNameError: another workload has its name.
    """
    try:
        found = msgspec.json.decode(text, type=Workload)
    except (msgspec.DecodeError, SpecError) as error:
        raise SpecError(
            f"expected a workload as a JSON object but {error}; for example "
            '{"name": "mine", "model": "mlp", "dataset": "digits"}'
        ) from error
    known = _registry.all().get(found.name)
    if known is None:
        _registry.register(
            found.name, Declared(workload=found, suites=(), where=COMMAND_LINE, needs_data=False), described
        )
    elif known.workload != found:
        raise DuplicateNameError("workload", found.name, known.where, COMMAND_LINE)
    return found


def written(workload: Workload) -> str:
    """Return how a command line names a workload: by its name, or as JSON where only a command line describes it."""
    known = _registry.all().get(workload.name)
    if known is not None and known.where != COMMAND_LINE:
        return workload.name
    return as_json(workload)


def as_json(workload: Workload) -> str:
    """Return the shortest JSON object that describes a workload: what has its default is left out."""
    return msgspec.json.encode(_spoken(workload)).decode()


def _spoken(value: Value) -> dict[str, object]:
    """Return a value's fields that differ from their defaults."""
    fields = {}
    for field in msgspec.structs.fields(type(value)):
        given = getattr(value, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if given != default:
            fields[field.name] = _spoken(given) if isinstance(given, Value) else given
    return fields


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


@workload("conformance")
def digits_mlp_adam() -> Workload:
    """Adam, clipping by value, four micro-batches a step, a learning rate that drops every second epoch."""
    return Workload(
        name="digits-mlp-adam",
        model="mlp",
        dataset="digits",
        optimizer=Optimizer(name="adam", learning_rate=1e-3),
        schedule=Schedule(gamma=0.5, every=2),
        clip_value=0.01,
        accumulation=4,
        check=Check(num_samples=55, global_batch=32),
    )


@workload("conformance")
def digits_mlp_frozen() -> Workload:
    """Plain SGD with weight decay, accumulation, augmentation, a step schedule; the first layer is not trained."""
    return Workload(
        name="digits-mlp-frozen",
        model="mlp",
        dataset="digits",
        optimizer=Optimizer(name="sgd", learning_rate=0.1, momentum=0.0, weight_decay=1e-2),
        schedule=Schedule(gamma=0.5, every=2),
        accumulation=2,
        augment="shift",
        frozen=("dense1",),
    )


@workload("conformance")
def digits_mlp_bf16() -> Workload:
    """Forward and backward under bfloat16 autocast: a smoke check."""
    # Few steps, large batches: rounding to half a precision soon makes another training of it.
    check = Check(num_samples=150, global_batch=64, num_steps=5, dtype="float32")
    return Workload(name="digits-mlp-bf16", model="mlp", dataset="digits", optimizer=SGD, precision="bf16", check=check)


@workload("conformance")
def digits_mlp_fp16() -> Workload:
    """Forward and backward under float16 autocast, with a loss scaler: a smoke check."""
    # Few steps, large batches: rounding to half a precision soon makes another training of it.
    check = Check(num_samples=150, global_batch=64, num_steps=5, dtype="float32")
    return Workload(name="digits-mlp-fp16", model="mlp", dataset="digits", optimizer=SGD, precision="fp16", check=check)


@workload("conformance")
def digits_cnn_resumed() -> Workload:
    """AdamW, saved after two steps and resumed in new processes."""
    return Workload(
        name="digits-cnn-resumed",
        model="simple-cnn",
        dataset="digits",
        optimizer=ADAMW,
        schedule=DECAYED,
        check=Check(resume_at=2),
    )


@workload("conformance")
def digits_mlp_adamw_resized() -> Workload:
    """AdamW, saved after two steps and resumed by three ranks."""
    return Workload(
        name="digits-mlp-adamw-resized",
        model="mlp",
        dataset="digits",
        optimizer=ADAMW,
        schedule=DECAYED,
        check=Check(resume_at=2, resume_ranks=3),
    )


@workload("conformance")
def digits_mlp_resized() -> Workload:
    """SGD with momentum, saved after two steps and resumed by three ranks."""
    return Workload(
        name="digits-mlp-resized",
        model="mlp",
        dataset="digits",
        optimizer=SGD,
        schedule=DECAYED,
        check=Check(resume_at=2, resume_ranks=3),
    )


@workload("conformance")
def digits_tied_mlp() -> Workload:
    """Two layers that use one weight and one bias, whose gradients must add up before they are reduced."""
    return Workload(
        name="digits-tied-mlp", model="tied-mlp", dataset="digits", optimizer=SGD, schedule=DECAYED, shape=(1, 8, 8)
    )


@workload("conformance")
def digits_routed_mlp() -> Workload:
    """Parameters that some ranks do not use in a step, and in the fourth step nobody: they must stay as they are."""
    return Workload(
        name="digits-routed-mlp",
        model="routed-mlp",
        dataset="digits",
        optimizer=Optimizer(name="sgd", learning_rate=0.05, momentum=0.9, weight_decay=1e-2),
        schedule=DECAYED,
        shape=(1, 8, 8),
        seed=4,
    )


@workload("conformance")
def digits_resnet18_narrow() -> Workload:
    """ResNet-18 of torchvision with an eighth of its channels and the entrance for small images."""
    return Workload(
        name="digits-resnet18-narrow",
        model="resnet18",
        model_options={"stem": "cifar", "width": 8},
        dataset="digits",
        optimizer=SGD,
        schedule=DECAYED,
        shape=(1, 8, 8),
    )


@workload("conformance")
def digits_vit_narrow() -> Workload:
    """Vision transformer of torchvision with two small blocks."""
    return Workload(
        name="digits-vit-narrow",
        model="vit-b16",
        model_options={"dim": 32, "depth": 2, "heads": 4, "mlp_dim": 64, "patch": 2},
        dataset="digits",
        optimizer=ADAMW,
        schedule=DECAYED,
        shape=(1, 8, 8),
    )


@workload("conformance")
def digits_swin_narrow() -> Workload:
    """Swin of torchvision with two stages of two small blocks: windows, shifted windows, merged patches."""
    return Workload(
        name="digits-swin-narrow",
        model="swin-t",
        model_options={"dim": 16, "depths": "2,2", "heads": "2,4", "patch": 2, "window": 4},
        dataset="digits",
        optimizer=ADAMW,
        schedule=DECAYED,
        shape=(1, 16, 16),
    )


@workload("conformance")
def digits_transformer() -> Workload:
    """A pre-norm transformer whose heads and perceptrons tensor parallelism can share out."""
    return Workload(
        name="digits-transformer",
        model="transformer",
        model_options={"dim": 32, "depth": 2, "heads": 4, "patch": 2},
        dataset="digits",
        optimizer=ADAMW,
        schedule=DECAYED,
        shape=(1, 8, 8),
    )


@workload("conformance")
def digits_transformer_sgd() -> Workload:
    """The same transformer under SGD: in float32, AdamW makes whole steps of the rounding where gradients are zero."""
    return msgspec.structs.replace(digits_transformer(), name="digits-transformer-sgd", optimizer=SGD)


@workload("conformance")
def digits_batchnorm_even() -> Workload:
    """Batch norm in batches that two, three or four micro-batches divide: pipelines cannot pad what it normalises."""
    return Workload(
        name="digits-batchnorm-even",
        model="mnist-cnn",
        dataset="digits",
        optimizer=SGD,
        schedule=DECAYED,
        dropout=0.25,
        global_batch=48,
        num_samples=960,
        shape=(1, 8, 8),
        check=Check(num_samples=72, global_batch=24),
    )


def _full(name: str, model: str, optimizer: Optimizer, **settings: Any) -> Workload:
    """Return a workload of a network in its full size, whose check is short: its traces fill gigabytes."""
    check = Check(num_samples=27, global_batch=16, num_steps=4)
    defaults: dict[str, Any] = {"num_samples": 512, "shape": (3, 32, 32), "check": check}
    return Workload(
        name=name, model=model, dataset="synthetic", optimizer=optimizer, schedule=DECAYED, **(defaults | settings)
    )


@workload()
def synthetic_resnet18() -> Workload:
    """ResNet-18 of torchvision, 11.2 million parameters with ten classes, on small images."""
    return _full("synthetic-resnet18", "resnet18", SGD)


@workload()
def synthetic_resnet50() -> Workload:
    """ResNet-50 of torchvision, 23.5 million parameters with ten classes, on small images."""
    return _full("synthetic-resnet50", "resnet50", SGD)


@workload()
def synthetic_swin_t() -> Workload:
    """Swin-T of torchvision, 27.5 million parameters with ten classes, on small images."""
    return _full("synthetic-swin-t", "swin-t", ADAMW)


@workload()
def synthetic_vit_b16() -> Workload:
    """ViT-B/16 of torchvision, 85.8 million parameters with ten classes, on images of 224 x 224."""
    check = Check(num_samples=13, global_batch=8, num_steps=4, num_held_out=4, dtype="float32")
    return _full("synthetic-vit-b16", "vit-b16", ADAMW, num_samples=128, shape=(3, 224, 224), check=check)
