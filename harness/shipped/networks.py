"""Networks of PyTorch modules: narrow ones on digits, and full-size ones on random images."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.shipped.common import ADAMW, DECAYED, SGD
from harness.spec import Check, Optimizer, Workload
from harness.workloads import workload


@workload("conformance")
def digits_resnet18_narrow() -> Workload:
    """ResNet-18 of torchvision with an eighth of its channels and the entrance for small images."""
    return Workload(
        name="digits-resnet18-narrow",
        model="resnet18",
        model_options={"stem": "cifar", "width": 8},
        dataset="digits",
        optimizer=SGD,
        schedule=DECAYED,
        shape=(1, 8, 8),
    )


@workload("conformance")
def digits_vit_narrow() -> Workload:
    """Vision transformer of torchvision with two small blocks."""
    return Workload(
        name="digits-vit-narrow",
        model="vit-b16",
        model_options={"dim": 32, "depth": 2, "heads": 4, "mlp_dim": 64, "patch": 2},
        dataset="digits",
        optimizer=ADAMW,
        schedule=DECAYED,
        shape=(1, 8, 8),
    )


@workload("conformance")
def digits_swin_narrow() -> Workload:
    """Swin of torchvision with two stages of two small blocks: windows, shifted windows, merged patches."""
    return Workload(
        name="digits-swin-narrow",
        model="swin-t",
        model_options={"dim": 16, "depths": "2,2", "heads": "2,4", "patch": 2, "window": 4},
        dataset="digits",
        optimizer=ADAMW,
        schedule=DECAYED,
        shape=(1, 16, 16),
    )


@workload("conformance")
def digits_transformer() -> Workload:
    """A pre-norm transformer whose heads and perceptrons tensor parallelism can share out."""
    return Workload(
        name="digits-transformer",
        model="transformer",
        model_options={"dim": 32, "depth": 2, "heads": 4, "patch": 2},
        dataset="digits",
        optimizer=ADAMW,
        schedule=DECAYED,
        shape=(1, 8, 8),
    )


@workload("conformance")
def digits_transformer_sgd() -> Workload:
    """The same transformer under SGD: in float32, AdamW makes whole steps of the rounding where gradients are zero."""
    return msgspec.structs.replace(digits_transformer(), name="digits-transformer-sgd", optimizer=SGD)


def _full(name: str, model: str, optimizer: Optimizer, **settings: Any) -> Workload:
    """Return a workload of a network in its full size, whose check is short: its traces fill gigabytes."""
    check = Check(num_samples=27, global_batch=16, num_steps=4)
    defaults: dict[str, Any] = {"num_samples": 512, "shape": (3, 32, 32), "check": check}
    return Workload(
        name=name, model=model, dataset="synthetic", optimizer=optimizer, schedule=DECAYED, **(defaults | settings)
    )


@workload()
def synthetic_resnet18() -> Workload:
    """ResNet-18 of torchvision, 11.2 million parameters with ten classes, on small images."""
    return _full("synthetic-resnet18", "resnet18", SGD)


@workload()
def synthetic_resnet50() -> Workload:
    """ResNet-50 of torchvision, 23.5 million parameters with ten classes, on small images."""
    return _full("synthetic-resnet50", "resnet50", SGD)


@workload()
def synthetic_swin_t() -> Workload:
    """Swin-T of torchvision, 27.5 million parameters with ten classes, on small images."""
    return _full("synthetic-swin-t", "swin-t", ADAMW)


@workload()
def synthetic_vit_b16() -> Workload:
    """ViT-B/16 of torchvision, 85.8 million parameters with ten classes, on images of 224 x 224."""
    check = Check(num_samples=13, global_batch=8, num_steps=4, num_held_out=4, dtype="float32")
    return _full("synthetic-vit-b16", "vit-b16", ADAMW, num_samples=128, shape=(3, 224, 224), check=check)
