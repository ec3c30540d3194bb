"""The vision transformer of torchvision, cut into blocks; ViT-B/16 unless made narrower. Built by PyTorch only.

A. Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021).
"""

from __future__ import annotations

from harness.models.base import Block, Dense, Layer, Shape, model, num_patches, require, require_counts, site

_VISION = "harness.loops.torch_vision"


@model("vit-b16")
def vit_b16(
    shape: Shape,
    num_classes: int,
    dropout: float,
    *,
    dim: int = 768,
    depth: int = 12,
    heads: int = 12,
    mlp_dim: int = 3072,
    patch: int = 16,
) -> tuple[Layer, ...]:
    """Patches behind a class token, ``depth`` encoder blocks, the normalised class token, one output per class.

    ``dropout`` comes before the last layer; there is none inside the blocks.
    """
    require_counts(dim=dim, depth=depth, heads=heads, mlp_dim=mlp_dim, patch=patch)
    require(dim % heads == 0, f"model option dim to be a multiple of heads={heads}", dim)
    tokens = {"channels": shape[0], "num_patches": num_patches(shape, patch), "patch": patch, "dim": dim}
    encoder = {"dim": dim, "heads": heads, "mlp_dim": mlp_dim}
    return (
        Block(name="tokens", module=f"{_VISION}:vit_tokens", settings=tokens),
        *(
            Block(name=f"layer{number}", module=f"{_VISION}:vit_block", settings=encoder)
            for number in range(1, depth + 1)
        ),
        Block(name="pool", module=f"{_VISION}:vit_pool", settings={"dim": dim}),
        *site(1, dropout, dim),
        Dense(name="head", in_features=dim, out_features=num_classes),
    )
