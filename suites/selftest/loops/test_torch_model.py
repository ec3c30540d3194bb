"""The PyTorch builder: canonical names, seed weights, and masks that travel with the activations."""

from __future__ import annotations

import copy
import importlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from harness import plan
from harness.datasets.base import Data
from harness.datasets.batches import Batch, make_batch
from harness.datasets.synthetic import synthetic
from harness.errors import SpecError
from harness.models import base
from harness.models.base import Block, Dense, Flatten, Layer, Shape
from harness.spec import Workload

if TYPE_CHECKING:  # collecting these tests must not cost the import of a framework: the fixture below imports it
    import torch  # noqa: TC004
    from torch import nn  # noqa: TC004

    from harness.loops import torch_model  # noqa: TC004

MODELS = ("mlp", "simple-cnn", "mnist-cnn", "tied-mlp")


def tied_twice(_shape: Shape, num_classes: int, _dropout: float) -> tuple[Layer, ...]:
    """Return a model whose three layers in the middle are one; ``untied_twice`` has three, which start alike."""
    return (
        Flatten(),
        Dense(name="dense1", in_features=64, out_features=8),
        *(Dense(name=f"dense{n}", in_features=8, out_features=8, tied="dense2" if n > 2 else None) for n in (2, 3, 4)),
        Dense(name="head", in_features=8, out_features=num_classes),
    )


def untied_twice(shape: Shape, num_classes: int, dropout: float) -> tuple[Layer, ...]:
    return tuple(
        Dense(name=layer.name, in_features=layer.in_features, out_features=layer.out_features)
        if isinstance(layer, Dense)
        else layer
        for layer in tied_twice(shape, num_classes, dropout)
    )


def of_blocks(_shape: Shape, num_classes: int, dropout: float) -> tuple[Layer, ...]:
    return (
        Block(name="block", module=f"{__file__}:small_block", settings={"width": 4}, normalises=True),
        Flatten(),
        *base.site(1, dropout, 256),
        Dense(name="head", in_features=256, out_features=num_classes),
    )


def small_block(*, width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def of_no_module(_shape: Shape, _num_classes: int, _dropout: float) -> tuple[Layer, ...]:
    return (Block(name="block", module="math:gcd"),)


@pytest.fixture(autouse=True, scope="module")
def frameworks() -> Iterator[None]:
    """Import PyTorch when the first of these tests runs; one thread is fastest for networks this small."""
    pytest.importorskip("torch")
    for name, module in (("torch", "torch"), ("nn", "torch.nn"), ("torch_model", "harness.loops.torch_model")):
        globals()[name] = importlib.import_module(module)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def workload(model: str, dropout: float = 0.25) -> Workload:
    return Workload(name="w", model=model, dataset="synthetic", shape=(1, 8, 8), num_samples=48, dropout=dropout)


def built(model: str, dropout: float = 0.25) -> nn.Sequential:
    return torch_model.build(workload(model, dropout), dtype=torch.float64, device="cpu")


def batch(model: str, samples: NDArray[np.int64], *, dropout: float = 0.25) -> Batch:
    data = synthetic(workload(model), None)
    sites = base.dropout_sites(base.layers(workload(model, dropout)))
    return make_batch(workload(model, dropout), data, samples, step=0, dtype="float64", sites=sites)


def travelling(of: Batch) -> torch_model.Travelling:
    images = torch.from_numpy(of.images)
    return (images, *map(torch.from_numpy, of.masks)) if of.masks else images


def gradients(network: nn.Module, batches: Sequence[Batch]) -> dict[str, torch.Tensor]:
    """Return the gradient of the summed loss over the batches, by the parameters' canonical names."""
    for part in batches:
        backward(network(travelling(part)), part)
    return collected(network)


def backward(logits: torch.Tensor, of: Batch) -> None:
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(of.labels), reduction="sum")
    torch.autograd.backward(loss)


def collected(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(parameter.grad) for name, parameter in network.named_parameters()}


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    return max(float((a - b).norm() / (1 + a.norm())) for a, b in zip(first.values(), second.values(), strict=True))


@pytest.mark.parametrize("model", MODELS)
def test_parameters_and_buffers_bear_the_canonical_names_and_hold_the_seed_weights(model: str) -> None:
    network, layers = built(model), base.layers(workload(model))
    assert {n: tuple(p.shape) for n, p in network.named_parameters()} == base.parameters(layers)
    tensors = dict(network.named_parameters()) | dict(
        network.named_buffers()
    )  # a shared one once, under its first name
    state = {name: tensor.detach() for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    weights = base.seed_weights(workload(model))
    assert set(state) == set(weights)
    for name, tensor in state.items():
        assert tensor.dtype == torch.float64
        np.testing.assert_array_equal(tensor.numpy(), weights[name])


def test_children_are_torchs_own_modules_under_readable_names() -> None:
    network = built("mnist-cnn")
    assert [name for name, _ in network.named_children()][:7] == [
        "conv1",
        "bn1",
        "relu1",
        "conv2",
        "bn2",
        "relu2",
        "maxpool1",
    ]
    assert isinstance(network.conv1, nn.Conv2d)
    assert isinstance(network.bn1, nn.BatchNorm2d)
    assert isinstance(network.bn4, nn.BatchNorm1d)
    assert (network.bn4.momentum, network.bn4.eps) == (0.1, 1e-5)


def test_float32_rounds_the_seed_weights_once() -> None:
    network = torch_model.build(workload("mlp"), dtype=torch.float32, device="cpu")
    expected = base.seed_weights(workload("mlp"))["dense1.weight"].astype(np.float32)
    np.testing.assert_array_equal(network.state_dict()["dense1.weight"].numpy(), expected)


def test_an_mlp_computes_what_numpy_computes() -> None:
    part, weights = batch("mlp", np.arange(5)), base.seed_weights(workload("mlp"))
    x = part.images.reshape(5, -1)
    for number in (1, 2, 3):
        x = np.einsum("ni,oi->no", x, weights[f"dense{number}.weight"]) + weights[f"dense{number}.bias"]
        if number < 3:
            x = np.maximum(x, 0) * part.masks[number - 1] / (1 - 0.25)
    np.testing.assert_allclose(built("mlp")(travelling(part)).detach().numpy(), x, rtol=1e-12)


def test_a_convolution_pads_with_zeros_and_keeps_the_size() -> None:
    part, weights = batch("simple-cnn", np.arange(2), dropout=0.0), base.seed_weights(workload("simple-cnn"))
    padded = np.pad(part.images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    expected = np.einsum("nchwij,ocij->nohw", windows, weights["conv1.weight"])
    expected += weights["conv1.bias"][:, None, None]
    output = built("simple-cnn", 0.0).get_submodule("conv1")(travelling(part)).detach().numpy()
    np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("model", ["mlp", "simple-cnn"])
def test_shards_add_up_to_the_whole_batch_though_there_is_dropout(model: str) -> None:
    samples = np.random.default_rng(0).permutation(48)[:29]
    whole = gradients(built(model), [batch(model, samples)])
    for world_size in (2, 3, 4):
        shards = [batch(model, plan.shard(samples, rank, world_size)) for rank in range(world_size)]
        assert largest_difference(whole, gradients(built(model), shards)) < 1e-13


def test_masks_of_other_samples_do_not_add_up() -> None:
    """The negative control: were masks drawn by place in the batch, sharding would change the gradient."""
    first, second = batch("mlp", np.arange(10)), batch("mlp", np.arange(10, 20))
    both = batch("mlp", np.arange(20))
    swapped = Batch(samples=second.samples, images=second.images, labels=second.labels, masks=first.masks)
    whole = gradients(built("mlp"), [both])
    assert largest_difference(whole, gradients(built("mlp"), [first, swapped])) > 1e-3


def test_every_layer_hands_on_the_masks_that_are_still_ahead() -> None:
    network, inputs = built("mnist-cnn"), travelling(batch("mnist-cnn", np.arange(6)))
    ahead = []
    for name, child in network.named_children():
        inputs = child(inputs)
        ahead.append((name, len(inputs) - 1 if isinstance(inputs, tuple) else None))
    assert dict(ahead) | {"conv1": 3, "dropout1": 2, "bn4": 2, "dropout2": 1, "dropout3": None} == dict(ahead)
    assert isinstance(inputs, torch.Tensor)


def test_dropout_zeroes_what_the_mask_drops_and_scales_the_rest() -> None:
    x, mask = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1, 0, 1]], dtype=torch.uint8)
    dropout = torch_model.MaskedDropout(0.75)
    assert dropout((x, mask)).tolist() == [[4.0, 0.0, 12.0]]
    assert [len(dropout((x, mask, mask))), len(dropout((x, mask, mask, mask)))] == [2, 3]


def test_in_evaluation_a_plain_tensor_passes_and_in_training_its_masks_are_missed() -> None:
    network = built("mlp")
    images = torch.from_numpy(batch("mlp", np.arange(3)).images)
    with pytest.raises(ValueError, match=r"expected \(activations, mask, ...\) in training but got a tensor; pass"):
        network(images)
    network.eval()
    plain = built("mlp", 0.0)
    torch.testing.assert_close(network(images), plain(images), rtol=0, atol=0)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_a_network_can_be_copied_and_sent(again: Callable[[nn.Module], nn.Module]) -> None:
    network, inputs = built("mnist-cnn"), travelling(batch("mnist-cnn", np.arange(4)))
    copied = again(network)
    torch.testing.assert_close(copied(inputs), network(inputs), rtol=0, atol=0)


def test_a_converted_batch_norm_hands_masks_on_once_told_to() -> None:
    """SyncBatchNorm.convert_sync_batchnorm puts torch's own modules in place of ours: they know no tuples."""
    inputs = travelling(batch("mnist-cnn", np.arange(4)))
    convert: Callable[[nn.Module], nn.Sequential] = nn.SyncBatchNorm.convert_sync_batchnorm
    converted = convert(built("mnist-cnn")).eval()
    assert isinstance(converted.bn1, nn.SyncBatchNorm)
    with pytest.raises(AttributeError, match="tuple"):
        converted(inputs)
    accepted = torch_model.accept_masks(converted)
    assert isinstance(accepted.bn1, nn.SyncBatchNorm)
    torch.testing.assert_close(accepted(inputs), built("mnist-cnn").eval()(inputs))
    assert [name for name, _ in accepted.named_parameters()] == list(
        base.parameters(base.layers(workload("mnist-cnn")))
    )


def test_masks_pass_through_a_pipeline() -> None:
    gpipe = pytest.importorskip("torchgpipe")
    part = batch("simple-cnn", np.arange(12))
    serial = gradients(built("simple-cnn"), [part])
    pipeline = gpipe.GPipe(built("simple-cnn"), [6, 5], devices=["cpu", "cpu"], chunks=2, checkpoint="never")
    assert largest_difference(serial, gradients(pipeline, [part])) < 1e-13


def test_a_pipeline_that_recomputes_needs_masks_that_take_gradients() -> None:
    """In torchgpipe 0.0.7 a recomputing partition hands tensor that it returns to autograd.

    Its Checkpoint.backward calls torch.autograd.backward with all outputs of the partition, and a mask that was only
    passed on has no gradient: RuntimeError. A mask in the model's dtype that requires a gradient passes; the gradient
    is thrown away.
    """
    gpipe = pytest.importorskip("torchgpipe")
    part = batch("simple-cnn", np.arange(12))
    serial = gradients(built("simple-cnn"), [part])

    def pipeline() -> nn.Module:
        network: nn.Module = gpipe.GPipe(built("simple-cnn"), [6, 5], devices=["cpu", "cpu"], chunks=2)
        return network

    with pytest.raises(RuntimeError, match="does not require grad"):
        gradients(pipeline(), [part])
    recomputing = pipeline()
    masks = (torch.from_numpy(mask).double().requires_grad_() for mask in part.masks)
    backward(recomputing((torch.from_numpy(part.images), *masks)), part)
    assert largest_difference(serial, collected(recomputing)) < 1e-13


def test_tied_layers_share_their_tensors_under_the_name_of_the_first() -> None:
    network = built(f"{__file__}:tied_twice")
    first, second, third = (dict(network.get_submodule(f"dense{n}").named_parameters()) for n in (2, 3, 4))
    assert all(first[kind] is second[kind] is third[kind] for kind in ("weight", "bias"))
    assert [name for name, _ in network.named_parameters()] == [
        f"{layer}.{kind}" for layer in ("dense1", "dense2", "head") for kind in ("weight", "bias")
    ]


def test_the_gradient_of_a_shared_tensor_is_the_sum_over_its_uses() -> None:
    part = batch("mlp", np.arange(12), dropout=0.0)
    tied, untied = built(f"{__file__}:tied_twice"), built(f"{__file__}:untied_twice")
    with torch.no_grad():
        for number in (3, 4):
            untied.get_submodule(f"dense{number}").load_state_dict(untied.get_submodule("dense2").state_dict())
    expected, apart = gradients(tied, [part]), gradients(untied, [part])
    for kind in ("weight", "bias"):
        uses = [apart[f"dense{number}.{kind}"] for number in (2, 3, 4)]
        torch.testing.assert_close(expected[f"dense2.{kind}"], sum(uses))
        assert float((expected[f"dense2.{kind}"] - uses[0]).norm()) > 1e-3, "a layer that is not tied shows"


def test_a_block_hands_masks_on_and_its_tensors_bear_its_name() -> None:
    model = f"{__file__}:of_blocks"
    network, part = built(model), batch(model, np.arange(6))
    assert list(dict(network.named_parameters())) == [
        *(f"block.{layer}.{kind}" for layer in (0, 1) for kind in ("weight", "bias")),
        "head.weight",
        "head.bias",
    ]
    assert isinstance(network.block, nn.Sequential)
    activations, mask = network.block(travelling(part))
    torch.testing.assert_close(activations, network.block(torch.from_numpy(part.images)))
    assert mask.shape == (6, 256)
    assert network(travelling(part)).shape == (6, 10)


def test_the_tensors_of_a_block_start_as_the_seed_and_their_names_say() -> None:
    model = f"{__file__}:of_blocks"
    state = built(model).state_dict()
    shapes = {name: tuple(parameter.shape) for name, parameter in built(model).named_parameters()}
    for name, value in base.initial(0, shapes).items():
        np.testing.assert_array_equal(state[name].numpy(), value)
    assert state["block.1.running_mean"].tolist() == [0.0] * 4
    assert state["block.1.running_var"].tolist() == [1.0] * 4


def test_a_block_whose_function_makes_no_module_is_refused() -> None:
    with pytest.raises(SpecError, match="expected math:gcd of block 'block' to return a module but got 0"):
        built(f"{__file__}:of_no_module")


def test_frozen_layers_take_no_gradient_and_the_others_do() -> None:
    model = f"{__file__}:of_blocks"
    frozen = msgspec.structs.replace(workload(model), frozen=("block",))
    network = torch_model.build(frozen, dtype=torch.float64, device="cpu")
    part = batch(model, np.arange(6))
    backward(network(travelling(part)), part)
    assert {name for name, parameter in network.named_parameters() if parameter.grad is None} == {
        f"block.{layer}.{kind}" for layer in (0, 1) for kind in ("weight", "bias")
    }


def test_an_mlp_learns_the_synthetic_classes() -> None:
    data, network = synthetic(workload("mlp"), None), built("mlp")
    before, after = accuracy(network, data), accuracy(trained(network), data)
    assert before < 0.5
    assert after > 0.9


def trained(network: nn.Sequential) -> nn.Sequential:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05 / 48, momentum=0.9)
    for _ in range(20):
        part = batch("mlp", np.arange(48))
        optimizer.zero_grad()
        backward(network(travelling(part)), part)
        optimizer.step()
    return network


def accuracy(network: nn.Sequential, data: Data) -> float:
    network.eval()
    logits = network(torch.from_numpy(data.held_out_images).double())
    network.train()
    return float((logits.argmax(1).numpy() == data.held_out_labels).mean())
