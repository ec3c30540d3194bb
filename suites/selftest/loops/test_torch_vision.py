"""The networks of torchvision in blocks: in full size torchvision's own, narrow ones fit for pipelines."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import MissingRequirementError
from harness.resolve import resolve
from harness.spec import Setting, Workload

if TYPE_CHECKING:  # collecting these tests must not cost the import of a framework: the fixture below imports it
    import torch  # noqa: TC004
    from torch import nn

    from harness.loops import torch_model  # noqa: TC004

# Our names -> torchvision's; a number counts from 1 here and from 0 there.
RENAMED: dict[str, tuple[tuple[str, str], ...]] = {
    "resnet18": ((r"^stem\.", ""), (r"^layer(\d)_(\d)", r"layer\1.<\2>")),
    "resnet50": ((r"^stem\.", ""), (r"^layer(\d)_(\d)", r"layer\1.<\2>")),
    "swin-t": (
        (r"^patches\.", "features.0."),
        *((rf"^stage{stage}_(\d)", rf"features.{2 * stage - 1}.<\1>") for stage in range(1, 5)),
        *((rf"^merge{stage}\.", f"features.{2 * stage}.") for stage in range(1, 4)),
        (r"^pool\.0\.", "norm."),
    ),
    "vit-b16": (
        (r"^tokens\.pos", "encoder.pos"),
        (r"^tokens\.", ""),
        (r"^layer(\d+)", r"encoder.layers.encoder_layer_<\1>"),
        (r"^pool\.ln", "encoder.ln"),
        (r"^head\.", "heads.head."),
    ),
}
NARROW: dict[str, dict[str, Setting]] = {
    "resnet18": {"stem": "cifar", "width": 4},
    "resnet50": {"stem": "imagenet", "width": 2},
    "swin-t": {"dim": 8, "depths": "2,2", "heads": "2,4", "patch": 2, "window": 4},
    "vit-b16": {"dim": 8, "depth": 2, "heads": 2, "mlp_dim": 16, "patch": 4},
    "transformer": {"dim": 8, "heads": 2},
}


@pytest.fixture(autouse=True, scope="module")
def frameworks() -> Iterator[None]:
    """Import PyTorch when the first of these tests runs."""
    pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    for name, module in (("torch", "torch"), ("torch_model", "harness.loops.torch_model")):
        globals()[name] = importlib.import_module(module)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def built(model: str, *, narrow: bool = True, **settings: Any) -> nn.Sequential:
    options = {"model_options": NARROW[model], "shape": (3, 16, 16)} if narrow else {}
    workload = Workload(name="w", model=model, dataset="synthetic", **options | settings)
    return torch_model.build(workload, dtype=torch.float64 if narrow else torch.float32, device="cpu")


def renamed(model: str, name: str) -> str:
    for pattern, replacement in RENAMED[model]:
        name, found = re.subn(pattern, replacement, name)
        if found:
            break
    return re.sub("<(.+)>", lambda number: str(int(number[1]) - 1), name)


@pytest.mark.parametrize(
    ("model", "theirs", "size", "training"),
    [
        ("resnet18", "resnet18", 32, True),
        ("resnet50", "resnet50", 32, True),
        ("swin-t", "swin_t", 32, False),
        ("vit-b16", "vit_b_16", 224, False),
    ],
)
def test_in_full_size_it_is_torchvisions_network(model: str, theirs: str, size: int, training: bool) -> None:
    ours = built(model, narrow=False, shape=(3, 224, 224), num_classes=1000).train(training)
    with torch.device("meta"):  # their own random weights would take seconds
        other = getattr(importlib.import_module("torchvision.models"), theirs)().train(training)
    state = {renamed(model, name): tensor.clone() for name, tensor in ours.state_dict().items()}
    assert {name: tensor.shape for name, tensor in state.items()} == {
        name: tensor.shape for name, tensor in other.state_dict().items()
    }
    assert {renamed(model, name) for name, _ in ours.named_parameters()} == {n for n, _ in other.named_parameters()}
    other.load_state_dict(state, assign=True)
    images = torch.randn(2 if training else 1, 3, size, size)  # batch norm needs two
    with torch.no_grad():
        expected = ours(images)
        torch.testing.assert_close(other(images), expected, rtol=0, atol=0)
        next(iter(state.values())).neg_()
        assert not torch.equal(other(images), expected), "the control: another first tensor shows"


@pytest.mark.parametrize("model", NARROW)
def test_every_tensor_of_a_narrow_network_has_a_part_in_the_loss(model: str) -> None:
    network = built(model)
    logits = network(torch.randn(4, 3, 16, 16, dtype=torch.float64))
    assert logits.shape == (4, 10)
    torch.nn.functional.cross_entropy(logits, torch.arange(4)).backward()  # type: ignore[no-untyped-call]
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


@pytest.mark.parametrize("model", NARROW)
def test_the_same_seed_starts_alike_in_every_process_and_dtype(model: str) -> None:
    first = built(model).state_dict()
    torch.manual_seed(7)  # what the modules draw for themselves must not count
    assert all(torch.equal(tensor, first[name]) for name, tensor in built(model).state_dict().items())
    other = built(model, seed=1).state_dict()
    assert all(not torch.equal(other[name], first[name]) for name in dict(built(model).named_parameters()))


@pytest.mark.parametrize("checkpoint", ["never", "always"])
@pytest.mark.parametrize("model", NARROW)
def test_a_pipeline_computes_the_gradients_of_its_micro_batches(model: str, checkpoint: str) -> None:
    gpipe = pytest.importorskip("torchgpipe")
    images, labels = torch.randn(6, 3, 16, 16, dtype=torch.float64), torch.arange(6)
    serial, pipeline = built(model), built(model)
    loss = torch.nn.CrossEntropyLoss(reduction="sum")
    for micro_batch, its_labels in zip(images.chunk(2), labels.chunk(2), strict=True):
        loss(serial(micro_batch), its_labels).backward()
    balance = [len(pipeline) // 2, len(pipeline) - len(pipeline) // 2]
    wrapped = gpipe.GPipe(pipeline, balance, devices=["cpu", "cpu"], chunks=2, checkpoint=checkpoint)
    loss(wrapped(images), labels).backward()
    for (name, expected), parameter in zip(serial.named_parameters(), pipeline.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-9, atol=1e-10, msg=name)


def test_without_torchvision_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "harness.loops.torch_vision", raising=False)
    monkeypatch.setitem(sys.modules, "torchvision.models.resnet", None)  # as if it were not there
    with pytest.raises(MissingRequirementError, match=r"expected torchvision, .* install torchvision, or take another"):
        resolve("harness.loops.torch_vision:basic_block")
