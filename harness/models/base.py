"""A model is a tuple of layer descriptions: described once in numpy, built by every framework.

Canonical names and shapes are torch's: ``conv1.weight`` is [out, in, height, width], ``dense1.weight`` [out, in]; a
flattened image is ordered (channel, row, column).
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.errors import SpecError
from harness.registry import Registry
from harness.spec import Setting, Value, Workload

Shape: TypeAlias = tuple[int, int, int]
Float64: TypeAlias = NDArray[np.float64]


class Conv(Value, frozen=True, kw_only=True):
    """A convolution with bias, stride 1 and zero padding that keeps height and width; ``kernel`` is odd."""

    name: str
    in_channels: int
    out_channels: int
    kernel: int = 3

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise SpecError(
                f"expected an odd kernel but got kernel={self.kernel} in {self.name!r}: "
                "frameworks pad an even one on different sides"
            )


class BatchNorm(Value, frozen=True, kw_only=True):
    """Batch normalisation of [n, features] or [n, features, h, w].

    ``momentum`` is the weight of the new statistics (torch's sense; Keras's is one minus that). The running variance
    is the unbiased one, as torch keeps it.
    """

    name: str
    num_features: int
    momentum: float = 0.1
    epsilon: float = 1e-5


class ReLU(Value, frozen=True, kw_only=True):
    """The rectifier."""


class MaxPool(Value, frozen=True, kw_only=True):
    """The maximum over ``size`` x ``size`` tiles; an incomplete last tile is left out."""

    size: int = 2


class Flatten(Value, frozen=True, kw_only=True):
    """[n, c, h, w] to [n, c * h * w]."""


class Dense(Value, frozen=True, kw_only=True):
    """A fully connected layer with bias; ``tied`` names an earlier one whose weight and bias it uses instead of own."""

    name: str
    in_features: int
    out_features: int
    tied: str | None = None


class Block(Value, frozen=True, kw_only=True):
    """A PyTorch module from one tensor to one tensor, which other frameworks do not have.

    ``module`` is ``"module:function"`` of a function that makes it from ``settings``. Its tensors bear its name before
    their own: ``block1.conv1.weight``. ``normalises`` says that it holds batch norms, ``routes`` that some of its
    parameters serve only some samples.
    """

    name: str
    module: str
    settings: Mapping[str, Setting] = {}
    normalises: bool = False
    routes: bool = False


class Dropout(Value, frozen=True, kw_only=True):
    """Dropout by given masks; ``shape`` is that of one sample's activations here, ``rate`` the share dropped."""

    name: str
    rate: float
    shape: tuple[int, ...]


Layer: TypeAlias = Conv | BatchNorm | ReLU | MaxPool | Flatten | Dense | Dropout | Block
Describe: TypeAlias = Callable[..., tuple[Layer, ...]]
D = TypeVar("D", bound=Describe)

registry: Registry[Describe] = Registry("model", "harness.models")


def model(name: str) -> Callable[[D], D]:
    """Register the decorated ``describe(shape, num_classes, dropout, **options) -> layers`` as model ``name``.

    ``shape`` is (channels, height, width) of one image; ``dropout`` a rate, at 0 of which no Dropout is described;
    ``options`` are the workload's ``model_options``.
    """

    def register(describe: D) -> D:
        registry.register(name, describe)
        return describe

    return register


def layers(workload: Workload) -> tuple[Layer, ...]:
    """Return the layers of the workload's model.

    Raises:
        UnknownNameError: no such model.
        SpecError: the images do not fit the model, it has no such option or layer to freeze, two layers share a name,
            or a layer is tied to none that it could be.
    """
    describe, options = registry.get(workload.model), workload.model_options
    try:
        inspect.signature(describe).bind(workload.shape, workload.num_classes, workload.dropout, **options)
    except TypeError as error:
        raise SpecError(f"expected model_options that model {workload.model!r} takes but {error}") from error
    described = describe(workload.shape, workload.num_classes, workload.dropout, **options)
    names = [layer.name for layer in described if isinstance(layer, Conv | BatchNorm | Dense | Dropout | Block)]
    unknown = sorted(set(workload.frozen) - set(names))
    if unknown:
        raise SpecError(
            f"expected frozen to name layers of model {workload.model!r} ({', '.join(names)}) but got {unknown}"
        )
    trained = [layer.name for layer in described if isinstance(layer, Conv | BatchNorm | Dense | Block)]
    if trained and not set(trained) - set(workload.frozen):
        raise SpecError(f"expected a layer of model {workload.model!r} that is trained but all are frozen: {trained}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(f"expected a name of its own for every layer of model {workload.model!r} but {twice} repeat")
    _check_ties(workload.model, described)
    return described


def _check_ties(model: str, described: tuple[Layer, ...]) -> None:
    """Raise SpecError where a layer is not tied to an earlier dense one of its own size that has its own weights."""
    owners: dict[str, Dense] = {}
    for layer in described:
        if not isinstance(layer, Dense):
            continue
        if layer.tied is None:
            owners[layer.name] = layer
            continue
        owner = owners.get(layer.tied)
        size = (layer.in_features, layer.out_features)
        if owner is None or (owner.in_features, owner.out_features) != size:
            raise SpecError(
                f"expected layer {layer.name!r} of model {model!r} to be tied to an earlier dense layer of "
                f"{size[0]} to {size[1]} features with weights of its own but got tied={layer.tied!r}"
            )


def require(holds: bool, expected: str, got: object) -> None:
    """Raise SpecError unless ``holds``: for what a model asks of its options and images."""
    if not holds:
        raise SpecError(f"expected {expected} but got {got}")


def require_counts(**options: object) -> None:
    """Raise SpecError unless every model option is a whole number >= 1."""
    for name, value in options.items():
        require(type(value) is int and value >= 1, f"model option {name} to be a whole number >= 1", repr(value))


def site(number: int, rate: float, *shape: int) -> tuple[Dropout, ...]:
    """Return a place for dropout at activations of ``shape``, or nothing at rate 0."""
    return (Dropout(name=f"dropout{number}", rate=rate, shape=shape),) if rate else ()


def num_patches(shape: Shape, patch: int) -> int:
    """Return how many squares of ``patch`` pixels tile an image; raise SpecError where they do not fit."""
    _, height, width = shape
    require(
        height % patch == 0 and width % patch == 0,
        f"images whose height and width are multiples of the model option patch={patch}",
        f"{height}x{width}",
    )
    return (height // patch) * (width // patch)


def pooled(shape: Shape, size: int = 2) -> Shape:
    """Return an image's shape after MaxPool(size).

    Raises:
        SpecError: nothing would be left.
    """
    channels, height, width = shape
    if min(height, width) < size:
        raise SpecError(
            f"expected images of at least {size}x{size} pixels before max-pooling but got {height}x{width}; "
            "enlarge the workload's shape or take a model that pools less"
        )
    return channels, height // size, width // size


def layer_names(layers: Iterable[Layer]) -> tuple[str, ...]:
    """Return a name for every layer: its own, or its kind and number (``relu1``) where it has none."""
    names: list[str] = []
    for layer in layers:
        kind = type(layer).__name__.lower()
        numbered = (f"{kind}{number}" for number in itertools.count(1))
        names.append(getattr(layer, "name", None) or next(name for name in numbered if name not in names))
    return tuple(names)


def parameters(layers: Iterable[Layer]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every trained tensor by canonical name, in model order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        match layer:
            case Conv(name=name, in_channels=ins, out_channels=outs, kernel=kernel):
                shapes |= {f"{name}.weight": (outs, ins, kernel, kernel), f"{name}.bias": (outs,)}
            case BatchNorm(name=name, num_features=features):
                shapes |= {f"{name}.weight": (features,), f"{name}.bias": (features,)}
            case Dense(name=name, in_features=ins, out_features=outs, tied=None):
                shapes |= {f"{name}.weight": (outs, ins), f"{name}.bias": (outs,)}
    return shapes


def buffers(layers: Iterable[Layer]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every running statistic by canonical name, in model order."""
    return {
        f"{layer.name}.{statistic}": (layer.num_features,)
        for layer in layers
        if isinstance(layer, BatchNorm)
        for statistic in ("running_mean", "running_var")
    }


def num_parameters(layers: Iterable[Layer]) -> int:
    """Return how many numbers the model holds, running statistics included (as Keras's ``count_params``)."""
    described = tuple(layers)
    return sum(math.prod(shape) for shape in (parameters(described) | buffers(described)).values())


def dropout_sites(layers: Iterable[Layer]) -> tuple[Dropout, ...]:
    """Return the places that need a mask, in model order."""
    return tuple(layer for layer in layers if isinstance(layer, Dropout))


def has_batchnorm(layers: Iterable[Layer]) -> bool:
    """Return whether samples of a batch see each other through its statistics."""
    return any(isinstance(layer, BatchNorm) or (isinstance(layer, Block) and layer.normalises) for layer in layers)


def has_blocks(layers: Iterable[Layer]) -> bool:
    """Return whether only PyTorch can build the model; its blocks' tensors are not in ``parameters``."""
    return any(isinstance(layer, Block) for layer in layers)


def has_routes(layers: Iterable[Layer]) -> bool:
    """Return whether a batch may leave parameters without a gradient."""
    return any(isinstance(layer, Block) and layer.routes for layer in layers)


def has_tied_weights(layers: Iterable[Layer]) -> bool:
    """Return whether several layers use one tensor."""
    return any(isinstance(layer, Dense) and layer.tied is not None for layer in layers)


def seed_weights(workload: Workload) -> dict[str, Float64]:
    """Return the weights that every framework starts from: float64 by canonical name, parameters, then buffers.

    Those of a Block are not among them: what builds it knows their shapes, and gives them to ``initial``.
    """
    described = layers(workload)
    weights = initial(workload.seed, parameters(described))
    for name, shape in buffers(described).items():
        weights[name] = np.zeros(shape) if name.endswith("running_mean") else np.ones(shape)
    return weights


def initial(seed: int, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Float64]:
    """Return the initial value of every parameter of a model, from their shapes by canonical name, in model order.

    A ``weight`` of two or more axes, first that of the outputs, is normal with variance 2 / fan-in (He et al. 2015), a
    quarter of that in the last one, which no ReLU follows: the first losses stay near log(num_classes). A ``weight`` of
    one axis scales a normalisation and lies near 1. All else (biases, shifts, positions, class tokens) lies near 0.
    None is constant: a tensor that starts as a constant hides a strategy that forgets to broadcast it. Every tensor is
    keyed on (seed, name), so that adding a layer leaves the others as they were.
    """
    matrices = [name for name, shape in shapes.items() if len(shape) > 1 and name.endswith("weight")]
    weights = {}
    for name, shape in shapes.items():
        normal = _normal(seed, name, shape)
        if name in matrices:
            weights[name] = normal * math.sqrt((0.5 if name == matrices[-1] else 2.0) / math.prod(shape[1:]))
        else:
            weights[name] = 0.02 * normal + (1.0 if name.endswith("weight") else 0.0)
    return weights


def _normal(seed: int, name: str, shape: tuple[int, ...]) -> Float64:
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng([seed, 3, key]).standard_normal(shape)
