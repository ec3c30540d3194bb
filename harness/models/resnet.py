"""The residual networks of torchvision, cut into blocks: ResNet-18 and ResNet-50. Built by PyTorch only.

K. He et al., "Deep Residual Learning for Image Recognition" (2016); as in torchvision, a bottleneck strides in its 3x3
convolution.
"""

from __future__ import annotations

from harness.models.base import Block, Dense, Layer, Shape, model, require, require_counts, site
from harness.spec import Setting

_VISION = "harness.loops.torch_vision"
_STEMS = ("imagenet", "cifar")


@model("resnet18")
def resnet18(
    shape: Shape, num_classes: int, dropout: float, *, stem: str = "imagenet", width: int = 64
) -> tuple[Layer, ...]:
    """Four stages of 2, 2, 2, 2 basic blocks; see ``_resnet``."""
    return _resnet(
        shape, num_classes, dropout, block="basic_block", depths=(2, 2, 2, 2), expansion=1, stem=stem, width=width
    )


@model("resnet50")
def resnet50(
    shape: Shape, num_classes: int, dropout: float, *, stem: str = "imagenet", width: int = 64
) -> tuple[Layer, ...]:
    """Four stages of 3, 4, 6, 3 bottlenecks; see ``_resnet``."""
    return _resnet(
        shape, num_classes, dropout, block="bottleneck", depths=(3, 4, 6, 3), expansion=4, stem=stem, width=width
    )


def _resnet(
    shape: Shape,
    num_classes: int,
    dropout: float,
    *,
    block: str,
    depths: tuple[int, ...],
    expansion: int,
    stem: str,
    width: int,
) -> tuple[Layer, ...]:
    """Return stem, stages of ``width``, 2, 4 and 8 times ``width`` planes, the mean, one output per class.

    The stem of ``imagenet`` divides height and width by 4 (a 7x7 convolution of stride 2, max-pooling); that of
    ``cifar``, for small images, keeps them (a 3x3 convolution). ``dropout`` comes before the last layer.
    """
    require_counts(width=width)
    require(stem in _STEMS, f"model option stem among {', '.join(_STEMS)}", repr(stem))
    start: dict[str, Setting] = {"channels": shape[0], "width": width, "kind": stem}
    layers: list[Layer] = [Block(name="stem", module=f"{_VISION}:resnet_stem", settings=start, normalises=True)]
    channels = width
    for stage, depth in enumerate(depths):
        planes = width << stage
        for number in range(depth):
            stride = 2 if stage and not number else 1
            settings = {"in_channels": channels, "planes": planes, "stride": stride}
            name = f"layer{stage + 1}_{number + 1}"
            layers.append(Block(name=name, module=f"{_VISION}:{block}", settings=settings, normalises=True))
            channels = planes * expansion
    return (
        *layers,
        Block(name="pool", module=f"{_VISION}:mean_pool"),
        *site(1, dropout, channels),
        Dense(name="fc", in_features=channels, out_features=num_classes),
    )
