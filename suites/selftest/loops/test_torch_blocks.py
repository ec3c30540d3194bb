"""The blocks of the small transformer: what numpy computes, and heads that can be shared out."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:  # collecting these tests must not cost the import of a framework: the fixture below imports it
    import torch  # noqa: TC004

    from harness.loops import torch_blocks  # noqa: TC004

DIM, HEADS = 12, 3


@pytest.fixture(autouse=True, scope="module")
def frameworks() -> Iterator[None]:
    """Import PyTorch when the first of these tests runs; every module starts from the same random numbers."""
    pytest.importorskip("torch")
    globals().update(
        torch=importlib.import_module("torch"), torch_blocks=importlib.import_module("harness.loops.torch_blocks")
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def block(heads: int = HEADS) -> torch_blocks.EncoderBlock:
    made = torch_blocks.encoder_block(dim=DIM, heads=heads).double()
    assert isinstance(made, torch_blocks.EncoderBlock)
    return made


def tokens() -> torch.Tensor:
    return torch.randn(2, 5, DIM, dtype=torch.float64)


def attended(of: torch_blocks.EncoderBlock, inputs: torch.Tensor, heads: int) -> np.ndarray:
    """Return in numpy what the first half of a block computes."""
    x = inputs.numpy()
    weights = {name: tensor.detach().numpy() for name, tensor in of.named_parameters()}
    normal = (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 1e-5)
    normal = normal * weights["norm1.weight"] + weights["norm1.bias"]
    parts = (
        np.einsum("ntd,ed->nte", normal, weights[f"{name}.weight"]) + weights[f"{name}.bias"]
        for name in ("q", "k", "v")
    )
    q, k, v = (part.reshape(*part.shape[:2], heads, DIM // heads) for part in parts)
    scores = np.exp(np.einsum("nthc,nshc->nhts", q, k) / np.sqrt(DIM // heads))
    mixed = np.einsum("nhts,nshc->nthc", scores / scores.sum(3, keepdims=True), v).reshape(x.shape)
    output: np.ndarray = x + np.einsum("ntd,ed->nte", mixed, weights["out.weight"]) + weights["out.bias"]
    return output


def without_perceptron(of: torch_blocks.EncoderBlock, inputs: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        for parameter in of.down.parameters():
            parameter.zero_()
        output: np.ndarray = of(inputs).numpy()
    return output


def test_attention_is_what_numpy_computes_and_depends_on_the_heads() -> None:
    inputs, of = tokens(), block()
    output = without_perceptron(of, inputs)
    np.testing.assert_allclose(output, attended(of, inputs, HEADS), rtol=1e-10, atol=1e-12)
    assert abs(output - attended(of, inputs, 2 * HEADS)).max() > 1e-6, "another number of heads is another result"


def test_two_ranks_that_share_the_heads_add_up_to_the_whole_block() -> None:
    inputs, whole = tokens(), block(heads=4)
    parts = []
    for rank in range(2):
        mine = slice(rank * DIM // 2, (rank + 1) * DIM // 2)
        half = block(heads=4)
        half.load_state_dict(whole.state_dict())
        for layer in (half.q, half.k, half.v):
            layer.weight, layer.bias = torch.nn.Parameter(layer.weight[mine]), torch.nn.Parameter(layer.bias[mine])
        half.out.weight = torch.nn.Parameter(half.out.weight[:, mine])
        parts.append(without_perceptron(half, inputs) - inputs.numpy() - half.out.bias.detach().numpy())
    expected = without_perceptron(whole, inputs) - inputs.numpy() - whole.out.bias.detach().numpy()
    np.testing.assert_allclose(parts[0] + parts[1], expected, rtol=1e-10, atol=1e-12)


def test_the_perceptron_sits_behind_its_norm_and_around_a_residual() -> None:
    inputs, of = tokens(), block()
    with torch.no_grad():
        after_attention = torch.from_numpy(attended(of, inputs, HEADS))
        normal = torch.nn.functional.layer_norm(after_attention, (DIM,))
        hidden = normal @ of.up.weight.T + of.up.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        torch.testing.assert_close(of(inputs), after_attention + hidden @ of.down.weight.T + of.down.bias)


def test_patches_run_row_by_row_and_have_positions() -> None:
    made = torch_blocks.patches(channels=1, num_patches=6, patch=2, dim=4).double()
    assert isinstance(made, torch_blocks.Patches)
    with torch.no_grad():
        made.conv.load_state_dict({"weight": torch.full((4, 1, 2, 2), 0.25), "bias": torch.zeros(4)})
        made.position[0, 5] = 100.0
        images = torch.arange(24, dtype=torch.float64).reshape(1, 1, 4, 6)
        means = made(images)[0, :, 0]
    assert means.tolist() == [3.5, 5.5, 7.5, 15.5, 17.5, 119.5]


def test_the_mean_is_taken_over_normalised_tokens() -> None:
    inputs = tokens()
    pooled = torch_blocks.mean_pool(dim=DIM).double()(inputs)
    torch.testing.assert_close(pooled, torch.nn.functional.layer_norm(inputs, (DIM,)).mean(1))
