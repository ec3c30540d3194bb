"""Models are described once: canonical names, shapes and counts that every framework must reproduce."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from harness.errors import SpecError, UnknownNameError
from harness.models import base
from harness.models.base import BatchNorm, Conv, Dense, Dropout, Flatten, Layer, MaxPool, Shape
from harness.spec import Workload

ALL = ("mlp", "simple-cnn", "mnist-cnn")


def workload(model: str, **settings: object) -> Workload:
    return Workload(name="w", model=model, dataset="synthetic", **settings)  # type: ignore[arg-type]


def two_of_one_name(_shape: Shape, _num_classes: int, _dropout: float) -> tuple[Layer, ...]:
    return (Dense(name="dense1", in_features=4, out_features=4), Dense(name="dense1", in_features=4, out_features=4))


def count(layers: Sequence[Layer], name: str) -> int:
    shapes = base.parameters(layers) | base.buffers(layers)
    return sum(math.prod(shape) for tensor, shape in shapes.items() if tensor.startswith(f"{name}."))


def output_shape(layers: Sequence[Layer], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Follow one sample through the layers, asserting that each gets what it was described for."""
    for layer in layers:
        match layer:
            case Conv(in_channels=ins, out_channels=outs):
                assert shape[0] == ins
                shape = (outs, *shape[1:])
            case BatchNorm(num_features=features):
                assert shape[0] == features
            case MaxPool():
                shape = base.pooled((shape[0], shape[1], shape[2]), layer.size)
            case Flatten():
                shape = (math.prod(shape),)
            case Dense(in_features=ins, out_features=outs):
                assert shape == (ins,)
                shape = (outs,)
            case Dropout(shape=expected):
                assert shape == expected
    return shape


def test_mnist_cnn_has_the_published_number_of_parameters_in_every_layer() -> None:
    layers = base.layers(workload("mnist-cnn"))
    names = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "dense1", "bn4", "dense2", "bn5", "dense3")
    published = (320, 128, 18_496, 256, 73_856, 512, 802_944, 512, 8_256, 256, 650)
    assert tuple(count(layers, name) for name in names) == published
    assert base.num_parameters(layers) == sum(published) == 906_186


def test_mnist_cnn_is_layered_as_published() -> None:
    kinds = [type(layer).__name__ for layer in base.layers(workload("mnist-cnn", dropout=0.25))]
    convolution, hidden = ["Conv", "BatchNorm", "ReLU"], ["Dense", "BatchNorm", "ReLU", "Dropout"]
    assert kinds == [
        *convolution,
        *convolution,
        "MaxPool",
        *convolution,
        "MaxPool",
        "Dropout",
        "Flatten",
        *hidden,
        *hidden,
        "Dense",
    ]


def test_names_and_shapes_are_canonical_and_in_model_order() -> None:
    layers = base.layers(workload("mnist-cnn"))
    assert list(base.parameters(layers).items())[:6] == [
        ("conv1.weight", (32, 1, 3, 3)),
        ("conv1.bias", (32,)),
        ("bn1.weight", (32,)),
        ("bn1.bias", (32,)),
        ("conv2.weight", (64, 32, 3, 3)),
        ("conv2.bias", (64,)),
    ]
    assert base.parameters(layers)["dense1.weight"] == (128, 128 * 7 * 7)
    assert list(base.buffers(layers))[:2] == ["bn1.running_mean", "bn1.running_var"]


@pytest.mark.parametrize("model", ALL)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 4, 9), (1, 5, 4)])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_every_layer_fits_the_one_before_it(model: str, shape: Shape, dropout: float) -> None:
    layers = base.layers(workload(model, shape=shape, num_classes=7, dropout=dropout))
    assert output_shape(layers, shape) == (7,)
    assert bool(base.dropout_sites(layers)) == (dropout > 0)


@pytest.mark.parametrize("model", ALL)
def test_dropout_changes_no_parameter(model: str) -> None:
    with_dropout, without = (base.layers(workload(model, dropout=rate)) for rate in (0.5, 0.0))
    assert base.parameters(with_dropout) == base.parameters(without)


def test_only_mnist_cnn_normalises_over_the_batch() -> None:
    assert [name for name in ALL if base.has_batchnorm(base.layers(workload(name)))] == ["mnist-cnn"]


@pytest.mark.parametrize("model", ["simple-cnn", "mnist-cnn"])
@pytest.mark.parametrize("shape", [(1, 3, 28), (1, 28, 3), (1, 1, 1)])
def test_images_too_small_to_pool_are_refused_with_the_way_out(model: str, shape: Shape) -> None:
    with pytest.raises(SpecError, match=r"expected images of at least 2x2 pixels before max-pooling.*enlarge"):
        base.layers(workload(model, shape=shape))


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(SpecError, match="expected an odd kernel but got kernel=2 in 'c'"):
        Conv(name="c", in_channels=1, out_channels=1, kernel=2)


def test_two_layers_of_one_name_are_refused() -> None:
    with pytest.raises(SpecError, match=r"a name of its own for every layer .* but \['dense1'\] repeat"):
        base.layers(workload(f"{__file__}:two_of_one_name"))


def test_an_unknown_model_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'simple_cnn'; did you mean 'simple-cnn'"):
        base.layers(workload("simple_cnn"))


def test_the_built_in_models_are_known() -> None:
    assert set(ALL) <= set(base.registry.known())
