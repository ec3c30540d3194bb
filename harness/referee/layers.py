"""Every layer's output and derivatives in plain numpy, from their definitions: no framework computes anything here.

Images are [n, c, h, w], features [n, f]. With L the loss, a layer is given dL/dy of its output y and returns dL/dw of
its weights and dL/dx of its input x.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from harness.models.base import Float64

Gradients = dict[str, Float64]


def _no_weights(_dy: Float64) -> Gradients:
    return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """One layer's forward pass: its output, and how derivatives go back through it."""

    output: Float64
    to_input: Callable[[Float64], Float64]
    to_weights: Callable[[Float64], Gradients] = _no_weights


def dense(x: Float64, weight: Float64, bias: Float64) -> Pass:
    """The product x W^T + b, with W of [out, in]."""
    return Pass(
        output=x @ weight.T + bias,
        to_input=lambda dy: dy @ weight,
        to_weights=lambda dy: {"weight": dy.T @ x, "bias": dy.sum(axis=0)},
    )


def convolution(x: Float64, weight: Float64, bias: Float64) -> Pass:
    """Cross-correlation with W of [out, in, k, k], stride 1, zeros around the image: height and width stay."""
    outs, ins, size, _ = weight.shape
    num, _, height, width = x.shape
    patches = _patches(x, size)

    def images(rows: Float64) -> Float64:
        return np.ascontiguousarray(rows.reshape(num, height, width, -1).transpose(0, 3, 1, 2))

    def to_input(dy: Float64) -> Float64:
        # The same convolution with the kernel turned by 180 degrees, its inputs and outputs exchanged.
        turned = weight[:, :, ::-1, ::-1].transpose(2, 3, 0, 1).reshape(-1, ins)
        return images(_patches(dy, size) @ turned)

    def to_weights(dy: Float64) -> Gradients:
        rows = dy.transpose(0, 2, 3, 1).reshape(-1, outs)
        found = (patches.T @ rows).reshape(size, size, ins, outs)
        return {"weight": found.transpose(3, 2, 0, 1), "bias": rows.sum(axis=0)}

    output = images(patches @ weight.transpose(2, 3, 1, 0).reshape(-1, outs) + bias)
    return Pass(output=output, to_input=to_input, to_weights=to_weights)


def _patches(x: Float64, size: int) -> Float64:
    """Return a row for each position, what it sees through a window of ``size``: [n * h * w, size * size * c]."""
    num, channels, height, width = x.shape
    edge = size // 2
    padded = np.pad(x.transpose(0, 2, 3, 1), ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    rows = np.empty((num, height, width, size, size, channels))
    for row, column in np.ndindex(size, size):
        rows[:, :, :, row, column] = padded[:, row : row + height, column : column + width]
    return rows.reshape(num * height * width, -1)


def relu(x: Float64) -> Pass:
    """The larger of x and 0; the derivative at 0 is 0."""
    passed = x > 0
    return Pass(output=x * passed, to_input=lambda dy: dy * passed)


def max_pool(x: Float64, size: int) -> Pass:
    """The maximum of every complete tile; of equal values the first one, row by row, gets the derivative."""
    num, channels, height, width = x.shape
    rows, columns = height // size, width // size
    tiled = (num, channels, rows, columns, size * size)
    tiles = x[:, :, : rows * size, : columns * size].reshape(num, channels, rows, size, columns, size)
    tiles = tiles.transpose(0, 1, 2, 4, 3, 5).reshape(tiled)
    highest = tiles.argmax(axis=-1)[..., None]

    def to_input(dy: Float64) -> Float64:
        spread = np.zeros(tiled)
        np.put_along_axis(spread, highest, dy[..., None], axis=-1)
        spread = spread.reshape(num, channels, rows, columns, size, size).transpose(0, 1, 2, 4, 3, 5)
        dx = np.zeros(x.shape)
        dx[:, :, : rows * size, : columns * size] = spread.reshape(num, channels, rows * size, columns * size)
        return dx

    return Pass(output=np.take_along_axis(tiles, highest, axis=-1)[..., 0], to_input=to_input)


def flatten(x: Float64) -> Pass:
    """[n, c, h, w] to [n, c * h * w]."""
    return Pass(output=x.reshape(len(x), -1), to_input=lambda dy: dy.reshape(x.shape))


def dropout(x: Float64, mask: Float64, rate: float) -> Pass:
    """What the mask of zeros and ones keeps, scaled so that its expectation stays."""
    kept = mask / (1 - rate)
    return Pass(output=x * kept, to_input=lambda dy: dy * kept)


def batch_norm(x: Float64, weight: Float64, bias: Float64, epsilon: float) -> Pass:
    """Return w (x - mean) / sqrt(variance + epsilon) + b, by the batch's own mean and biased variance of a channel."""
    axes, column = _over_channels(x)
    mean, variance = x.mean(axis=axes), x.var(axis=axes)
    scale = 1 / np.sqrt(variance + epsilon)
    normal = (x - mean.reshape(column)) * scale.reshape(column)

    def to_input(dy: Float64) -> Float64:
        # Mean and variance depend on every x: what a change of one moves in the others is taken away.
        own = dy - dy.mean(axis=axes, keepdims=True) - normal * (dy * normal).mean(axis=axes, keepdims=True)
        dx: Float64 = own * (weight * scale).reshape(column)
        return dx

    return Pass(
        output=normal * weight.reshape(column) + bias.reshape(column),
        to_input=to_input,
        to_weights=lambda dy: {"weight": (dy * normal).sum(axis=axes), "bias": dy.sum(axis=axes)},
    )


def moved_statistics(x: Float64, running: Mapping[str, Float64], momentum: float) -> dict[str, Float64]:
    """Return the running statistics after a batch: the mean and the unbiased variance, new ones weighing momentum."""
    axes, _ = _over_channels(x)
    new = {"running_mean": x.mean(axis=axes), "running_var": x.var(axis=axes, ddof=1)}
    return {name: (1 - momentum) * running[name] + momentum * value for name, value in new.items()}


def normalised(x: Float64, tensors: Mapping[str, Float64], epsilon: float) -> Float64:
    """Return what a batch norm puts out in evaluation, where running statistics stand for the batch's own."""
    _, column = _over_channels(x)
    weight, bias, mean, variance = (
        tensors[name].reshape(column) for name in ("weight", "bias", "running_mean", "running_var")
    )
    return weight * (x - mean) / np.sqrt(variance + epsilon) + bias


def _over_channels(x: Float64) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the axes over which a channel's values lie, and the shape of a value per channel beside ``x``."""
    return tuple(axis for axis in range(x.ndim) if axis != 1), (1, -1, *[1] * (x.ndim - 2))


def cross_entropy(logits: Float64, labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> tuple[Float64, Float64]:
    """Return every sample's -log softmax(logits)[label], and its derivative by the logits: softmax minus one-hot."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    sums = powers.sum(axis=1, keepdims=True)
    derivative = powers / sums
    derivative[rows, labels] -= 1
    return np.log(sums[:, 0]) - shifted[rows, labels], derivative
