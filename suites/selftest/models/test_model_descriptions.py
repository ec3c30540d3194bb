"""Models are described once: canonical names, shapes and counts that every framework must reproduce."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from harness.errors import SpecError, UnknownNameError
from harness.models import base
from harness.models.base import BatchNorm, Conv, Dense, Dropout, Flatten, Layer, MaxPool, Shape
from harness.spec import Workload

ALL = ("mlp", "simple-cnn", "mnist-cnn", "tied-mlp")
BLOCKS = ("resnet18", "resnet50", "swin-t", "vit-b16", "transformer")


def workload(model: str, **settings: object) -> Workload:
    return Workload(name="w", model=model, dataset="synthetic", **settings)  # type: ignore[arg-type]


def two_of_one_name(_shape: Shape, _num_classes: int, _dropout: float) -> tuple[Layer, ...]:
    return (Dense(name="dense1", in_features=4, out_features=4), Dense(name="dense1", in_features=4, out_features=4))


def tied_to_a_later_one(_shape: Shape, _num_classes: int, _dropout: float) -> tuple[Layer, ...]:
    return (
        Dense(name="dense1", in_features=4, out_features=4, tied="dense2"),
        Dense(name="dense2", in_features=4, out_features=4),
    )


def tied_to_another_size(_shape: Shape, _num_classes: int, _dropout: float) -> tuple[Layer, ...]:
    return (
        Dense(name="dense1", in_features=4, out_features=3),
        Dense(name="dense2", in_features=3, out_features=4, tied="dense1"),
    )


def tied_to_a_tied_one(_shape: Shape, _num_classes: int, _dropout: float) -> tuple[Layer, ...]:
    return (
        Dense(name="dense1", in_features=4, out_features=4),
        Dense(name="dense2", in_features=4, out_features=4, tied="dense1"),
        Dense(name="dense3", in_features=4, out_features=4, tied="dense2"),
    )


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


def test_a_perceptron_may_be_deeper_and_narrower() -> None:
    layers = base.layers(workload("mlp", model_options={"width": 8, "depth": 3}, shape=(1, 2, 2), dropout=0.5))
    shapes = {name: shape for name, shape in base.parameters(layers).items() if name.endswith("weight")}
    assert shapes == {
        "dense1.weight": (8, 4),
        "dense2.weight": (4, 8),
        "dense3.weight": (2, 4),
        "dense4.weight": (10, 2),
    }
    assert [site.shape for site in base.dropout_sites(layers)] == [(8,), (4,), (2,)]


def test_a_convolutional_network_may_be_narrower() -> None:
    layers = base.layers(workload("simple-cnn", model_options={"width": 2}, shape=(1, 8, 8)))
    assert output_shape(layers, (1, 8, 8)) == (10,)
    assert base.parameters(layers)["conv2.weight"] == (4, 2, 3, 3)
    assert base.parameters(layers)["dense1.weight"] == (8, 16)


def test_a_tied_layer_has_no_tensors_of_its_own() -> None:
    layers = base.layers(workload("tied-mlp", model_options={"width": 6}))
    assert base.has_tied_weights(layers)
    assert [name for name in base.parameters(layers) if name.endswith("weight")] == [
        f"dense{number}.weight" for number in (1, 2, 3, 5)
    ]
    assert not base.has_tied_weights(base.layers(workload("mlp")))


@pytest.mark.parametrize("describe", ["tied_to_a_later_one", "tied_to_another_size", "tied_to_a_tied_one"])
def test_a_layer_is_tied_to_an_earlier_one_of_its_size_that_has_weights(describe: str) -> None:
    with pytest.raises(
        SpecError, match=r"to be tied to an earlier dense layer of \d to \d features .* got tied='dense"
    ):
        base.layers(workload(f"{__file__}:{describe}"))


@pytest.mark.parametrize("model", BLOCKS)
def test_models_of_blocks_end_in_dropout_and_a_dense_layer_over_the_classes(model: str) -> None:
    *blocks, dropout, head = base.layers(workload(model, shape=(3, 32, 32), num_classes=7, dropout=0.5))
    assert base.has_blocks(blocks)
    assert isinstance(head, Dense)
    assert isinstance(dropout, Dropout)
    assert (head.out_features, dropout.shape) == (7, (head.in_features,))


def test_of_the_models_of_blocks_the_residual_networks_normalise_over_the_batch() -> None:
    normalising = [name for name in BLOCKS if base.has_batchnorm(base.layers(workload(name, shape=(3, 32, 32))))]
    assert normalising == ["resnet18", "resnet50"]


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("mlp", {"width": 0}, "expected model option width to be a whole number >= 1 but got 0"),
        ("mlp", {"depth": 1.5}, "expected model option depth to be a whole number >= 1 but got 1.5"),
        ("mlp", {"height": 3}, "expected model_options that model 'mlp' takes but .*unexpected .*'height'"),
        ("resnet18", {"stem": "mnist"}, "expected model option stem among imagenet, cifar but got 'mnist'"),
        ("vit-b16", {"heads": 5}, "expected model option dim to be a multiple of heads=5 but got 768"),
        ("vit-b16", {"patch": 5}, "whose height and width are multiples of the model option patch=5 but got 28x28"),
        ("transformer", {"dim": 6}, "expected model option dim to be a multiple of heads=4 but got 6"),
        ("swin-t", {"depths": "2,2"}, "depths and heads to hold a number per stage each but got '2,2' and '3,6,12,24'"),
        ("swin-t", {"depths": "2,x"}, "expected model option depths to hold whole numbers >= 1, .* but got '2,x'"),
        ("swin-t", {"dim": 6, "heads": "3,5,6,8"}, "the 12 features of stage 2 to be a multiple of heads but got 5"),
    ],
)
def test_options_that_a_model_cannot_have_are_refused(model: str, options: dict[str, object], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        base.layers(workload(model, model_options=options))
