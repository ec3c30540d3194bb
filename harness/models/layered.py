"""A model written down layer by layer, so that a command line can say any: ``conv8-bn-relu-flatten-dense4-dense``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from harness.errors import SpecError
from harness.models.base import (
    BatchNorm,
    Block,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    ReLU,
    Shape,
    model,
    pooled,
    require,
)

_WORD = re.compile(r"(conv|dense|pool|bn|relu|flatten)(\d*)")
_SIZED = ("conv", "dense")


@model("layered")
def layered(shape: Shape, num_classes: int, dropout: float, *, layers: str) -> tuple[Layer, ...]:
    """Layers in the order of ``layers``, joined by ``-``: ``conv8`` (3x3), ``dense4``, ``bn``, ``relu``, ``pool2``, ...

    The last one is ``dense``, of one output per class. Convolutions, batch norms and dense layers are named by their
    kind and counted from 1.
    """
    require(not dropout, "no dropout in a layered model", dropout)
    here: tuple[int, ...] = shape
    found: list[Layer] = []
    words = layers.split("-")
    for place, word in enumerate(words):
        kind, number = _parsed(word)
        last = place == len(words) - 1
        require((word == "dense") == last, "'dense' as the last layer, and only there", repr(layers))
        size = num_classes if last else number
        require(kind not in _SIZED or size >= 1, f"a number of outputs after {kind!r}", repr(layers))
        flat = len(here) == 1
        require(flat == (kind == "dense") or kind in {"bn", "relu"}, "'flatten' once, before 'dense'", repr(layers))
        name = f"{kind}{1 + sum(_parsed(before)[0] == kind for before in words[:place])}"
        layer, here = _layer(kind, name, size, here)
        found.append(layer)
    return tuple(found)


def written(layers: Iterable[Layer]) -> str | None:
    """Return how a layered model is asked for that has these layers (dropout aside), or None where none can have."""
    words = []
    for layer in layers:
        match layer:
            case Block() | Dense(tied=str()):
                return None
            case Conv(out_channels=outs, kernel=3):
                words.append(f"conv{outs}")
            case Conv():
                return None
            case Dense(out_features=outs):
                words.append(f"dense{outs}")
            case MaxPool(size=size):
                words.append(f"pool{size}")
            case BatchNorm():
                words.append("bn")
            case ReLU() | Flatten():
                words.append(type(layer).__name__.lower())
            case Dropout():
                pass
    return "-".join([*words[:-1], "dense"]) if words and words[-1].startswith("dense") else None


def _parsed(word: str) -> tuple[str, int]:
    found = _WORD.fullmatch(word)
    if found is None:
        raise SpecError(
            f"expected layers among conv8, dense4, pool2, bn, relu, flatten and a last dense but got {word!r}"
        )
    return found[1], int(found[2] or 0)


def _layer(kind: str, name: str, size: int, here: tuple[int, ...]) -> tuple[Layer, tuple[int, ...]]:
    """Return a layer and the shape of a sample behind it."""
    match kind:
        case "conv":
            return Conv(name=name, in_channels=here[0], out_channels=size), (size, *here[1:])
        case "dense":
            return Dense(name=name, in_features=here[0], out_features=size), (size,)
        case "pool":
            channels, height, width = here
            return MaxPool(size=size or 2), pooled((channels, height, width), size or 2)
        case "bn":
            return BatchNorm(name=name, num_features=here[0]), here
        case "flatten":
            return Flatten(), (math.prod(here),)
        case _:
            return ReLU(), here
