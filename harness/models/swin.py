"""The Swin transformer of torchvision, cut into blocks; Swin-T unless made narrower. Built by PyTorch only.

Z. Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows" (2021).
"""

from __future__ import annotations

from harness.models.base import Block, Dense, Layer, Shape, model, num_patches, require, require_counts, site

_VISION = "harness.loops.torch_vision"


@model("swin-t")
def swin_t(
    shape: Shape,
    num_classes: int,
    dropout: float,
    *,
    dim: int = 96,
    depths: str = "2,2,6,2",
    heads: str = "3,6,12,24",
    patch: int = 4,
    window: int = 7,
) -> tuple[Layer, ...]:
    """Patches, a stage of blocks per number of ``depths``, merged in between, the mean, one output per class.

    ``depths`` and ``heads`` hold a number per stage; ``dim`` is the width of the first, each next is twice as wide.
    ``dropout`` comes before the last layer; there is none inside the blocks.
    """
    require_counts(dim=dim, patch=patch, window=window)
    num_patches(shape, patch)  # refuses images that patches do not tile
    stages = _stages(depths, heads)
    tokens = {"channels": shape[0], "dim": dim, "patch": patch}
    layers: list[Layer] = [Block(name="patches", module=f"{_VISION}:swin_patches", settings=tokens)]
    for stage, (depth, num_heads) in enumerate(stages):
        width = dim << stage
        require(
            width % num_heads == 0, f"the {width} features of stage {stage + 1} to be a multiple of heads", num_heads
        )
        if stage:
            layers.append(Block(name=f"merge{stage}", module=f"{_VISION}:swin_merge", settings={"dim": width // 2}))
        for number in range(depth):
            settings = {"dim": width, "heads": num_heads, "window": window, "shift": window // 2 if number % 2 else 0}
            name = f"stage{stage + 1}_{number + 1}"
            layers.append(Block(name=name, module=f"{_VISION}:swin_block", settings=settings))
    return (
        *layers,
        Block(name="pool", module=f"{_VISION}:swin_pool", settings={"dim": width}),
        *site(1, dropout, width),
        Dense(name="head", in_features=width, out_features=num_classes),
    )


def _stages(depths: str, heads: str) -> list[tuple[int, int]]:
    """Return the number of blocks and of heads of every stage."""
    as_numbers = _numbers("depths", depths), _numbers("heads", heads)
    same = len(as_numbers[0]) == len(as_numbers[1])
    require(same, "model options depths and heads to hold a number per stage each", f"{depths!r} and {heads!r}")
    return list(zip(*as_numbers, strict=True))


def _numbers(name: str, text: str) -> tuple[int, ...]:
    """Return the numbers of an option written like ``"2,2,6,2"``."""
    words = str(text).split(",")
    fit = all(word.isdecimal() and int(word) >= 1 for word in words)
    require(fit, f"model option {name} to hold whole numbers >= 1, as in '2,2,6,2',", repr(text))
    return tuple(map(int, words))
