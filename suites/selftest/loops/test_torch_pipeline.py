"""The names of tied layers in the stages of a pipeline: they must not depend on how the model is cut."""

from __future__ import annotations

from collections import OrderedDict

import pytest

torch = pytest.importorskip("torch", reason="needs torch, which is not installed")

from torch import nn

from harness.loops.torch_pipeline import Held, _under_first_names, _weights

pytestmark = pytest.mark.torch


def tied_twice() -> nn.Sequential:
    """Return five layers of which three in the middle are one."""
    layers = {name: nn.Linear(3, 3) for name in ("first", "one", "two", "three", "last")}
    for name in ("two", "three"):
        layers[name].weight, layers[name].bias = layers["one"].weight, layers["one"].bias
    return nn.Sequential(OrderedDict(layers))


@pytest.mark.parametrize(
    ("layers", "kept"),
    [
        (("first", "one", "two", "three", "last"), ("first", "one", "last")),
        (("one", "three"), ("one",)),
        (("two", "three", "last"), ("one", "last")),
        (("three",), ("one",)),
        (("last",), ("last",)),
    ],
)
def test_a_rank_holds_all_its_layers_and_saves_a_shared_tensor_once_under_its_first_name(
    layers: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    model = tied_twice()
    held = Held(_under_first_names(model, [(name, getattr(model, name)) for name in layers]))
    assert list(held.children()) == [getattr(model, name) for name in layers]
    whole = model.state_dict()
    saved = _weights(held)
    assert list(saved) == [f"{name}.{tensor}" for name in kept for tensor in ("weight", "bias")]
    assert all(tensor.data_ptr() == whole[name].data_ptr() for name, tensor in saved.items())
