"""A small pre-norm transformer over patches of an image, whose query, key and value are layers of their own.

So tensor parallelism can share out its heads. Built by PyTorch only.
"""

from __future__ import annotations

from harness.models.base import Block, Dense, Layer, Shape, model, num_patches, require, require_counts, site

_BLOCKS = "harness.loops.torch_blocks"


@model("transformer")
def transformer(
    shape: Shape, num_classes: int, dropout: float, *, dim: int = 64, depth: int = 2, heads: int = 4, patch: int = 4
) -> tuple[Layer, ...]:
    """Patches with positions, ``depth`` encoder blocks, the mean over patches, dropout, one output per class."""
    require_counts(dim=dim, depth=depth, heads=heads, patch=patch)
    require(dim % heads == 0, f"model option dim to be a multiple of heads={heads}", dim)
    tokens = {"channels": shape[0], "num_patches": num_patches(shape, patch), "patch": patch, "dim": dim}
    return (
        Block(name="patches", module=f"{_BLOCKS}:patches", settings=tokens),
        *(
            Block(name=f"block{number}", module=f"{_BLOCKS}:encoder_block", settings={"dim": dim, "heads": heads})
            for number in range(1, depth + 1)
        ),
        Block(name="pool", module=f"{_BLOCKS}:mean_pool", settings={"dim": dim}),
        *site(1, dropout, dim),
        Dense(name="head", in_features=dim, out_features=num_classes),
    )
