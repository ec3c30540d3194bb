"""What a strategy sends in one step, from the model's shapes: which collective, how many bytes, and beside what.

    all-reduce         gradients                                          DistributedDataParallel, Horovod, Mirrored
    optimizer shards   all-reduce of gradients, then parameters from      ZeroRedundancyOptimizer
                       their owners to all
    gradient shards    reduce-scatter of gradients, all-gather of         ZeRO-1 and -2 of DeepSpeed
                       parameters after the update
    parameter shards   all-gather of parameters before forward and        FSDP, ZeRO-3
                       before backward, reduce-scatter of gradients
    one master         parameters from rank 0, gradients to it            DataParallel
    server             gradients to a server, parameters from it          parameter server
    pipeline           activations forward, their gradients back          GPipe: a message a cut and micro-batch
    tensor             all-reduce of activations, forward and backward    Megatron's pairs of layers

(Rajbhandari et al. 2020 for ZeRO, Huang et al. 2019 for GPipe, Shoeybi et al. 2019 for pairs of layers.)
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

from harness.errors import UnknownNameError, UsageError
from harness.measure.network import Collective
from harness.models import base as models
from harness.models.base import BatchNorm, Conv, Dense, Dropout, Flatten, Layer, MaxPool, ReLU
from harness.spec import Workload

Scheme = Literal[
    "all-reduce",
    "optimizer-shards",
    "gradient-shards",
    "parameter-shards",
    "one-master",
    "server",
    "pipeline",
    "tensor",
]
# Beside what a transfer may go on; nothing hides one "alone".
Phase = Literal["forward", "backward", "alone"]

SCHEMES: dict[str, Scheme] = {
    "torch-ddp": "all-reduce",
    "torch-threads": "all-reduce",
    "horovod-torch": "all-reduce",
    "horovod-keras": "all-reduce",
    "tf-mirrored": "all-reduce",
    "tf-multiworker": "all-reduce",
    "deepspeed-zero0": "all-reduce",
    "torch-zero1": "optimizer-shards",
    "deepspeed-zero1": "gradient-shards",
    "deepspeed-zero2": "gradient-shards",
    "deepspeed-zero3": "parameter-shards",
    "torch-fsdp": "parameter-shards",
    "torch-dp": "one-master",
    "tf-parameter-server": "server",
    "torch-pp": "pipeline",
    "torchgpipe": "pipeline",
    "torch-tp": "tensor",
}
BYTES = {"float32": 4, "float64": 8}
# Gradients sent at once: DistributedDataParallel's bucket_cap_mb, and Horovod's fusion buffer (0.21 and later).
BUCKET_BYTES = 25 * 2**20
FUSION_BYTES = 128 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """A model's sizes in bytes: of all gradients, of all parameters, and per sample of activations.

    ``cut_bytes`` leave a stage of a pipeline at an average cut, ``pair_bytes`` all pairs of layers together that tensor
    parallelism splits; None where the model's shapes do not tell.
    """

    gradient_bytes: float
    parameter_bytes: float
    cut_bytes: float | None = None
    pair_bytes: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """One collective of a step; ``num_bytes`` is the whole (see harness.measure.network)."""

    kind: Collective
    num_bytes: float
    beside: Phase


def scheme(strategy: str) -> Scheme:
    """Return what a strategy sends; its options are left out of account.

    Raises:
        UnknownNameError: no strategy whose volume is known; combined ones are not.
    """
    name = strategy.partition("+")[0]
    if name not in SCHEMES:
        raise UnknownNameError("strategy to predict", name, SCHEMES)
    return SCHEMES[name]


def bucket_bytes(strategy: str) -> int:
    """Return how many bytes of gradients a strategy sends at once."""
    return FUSION_BYTES if strategy.startswith("horovod-") else BUCKET_BYTES


def transfers(plan: Scheme, sizes: Sizes, batch: float) -> tuple[Transfer, ...]:
    """Return what one step of ``batch`` samples (a rank's own, or a pipeline's micro-batch) sends.

    Raises:
        UsageError: the model's shapes do not tell what a pipeline or tensor parallelism would send.
    """
    gradients, parameters = sizes.gradient_bytes, sizes.parameter_bytes
    found: list[tuple[Collective, float, Phase]]
    match plan:
        case "all-reduce":
            found = [("all-reduce", gradients, "backward")]
        case "optimizer-shards":
            found = [("all-reduce", gradients, "backward"), ("all-gather", parameters, "alone")]
        case "gradient-shards":
            found = [("reduce-scatter", gradients, "backward"), ("all-gather", parameters, "alone")]
        case "parameter-shards":
            found = [("all-gather", parameters, phase) for phase in ("forward", "backward")]
            found += [("reduce-scatter", gradients, "backward")]
        case "one-master":
            found = [("broadcast", parameters, "alone"), ("broadcast", gradients, "alone")]
        case "server":
            found = [("send", gradients, "backward"), ("send", parameters, "alone")]
        case "pipeline":
            cut = _told(sizes.cut_bytes, "pipeline") * batch
            found = [("send", cut, "forward"), ("send", cut, "backward")]
        case "tensor":
            found = [("all-reduce", _told(sizes.pair_bytes, "tensor parallelism") * batch, "alone")] * 2
    return tuple(Transfer(kind=kind, num_bytes=num_bytes, beside=beside) for kind, num_bytes, beside in found)


def of_parameters(num_parameters: int, *, gradient_bytes: int = 4, parameter_bytes: int = 4) -> Sizes:
    """Return the sizes of a model of which only the number of parameters is known."""
    return Sizes(gradient_bytes=gradient_bytes * num_parameters, parameter_bytes=parameter_bytes * num_parameters)


def of_workload(workload: Workload) -> Sizes:
    """Return the sizes of a workload's model from its layers; frozen ones have no gradient.

    Raises:
        UsageError: a model of PyTorch modules, whose shapes only PyTorch knows.
    """
    described = _plain(workload)
    width = BYTES[workload.dtype]
    shapes = models.parameters(described)
    trained = {name: shape for name, shape in shapes.items() if name.partition(".")[0] not in workload.frozen}
    outputs = activations(described, workload.shape)
    return Sizes(
        gradient_bytes=width * sum(map(math.prod, trained.values())),
        parameter_bytes=width * sum(map(math.prod, shapes.values())),
        cut_bytes=width * sum(outputs[:-1]) / max(1, len(outputs) - 1),
        pair_bytes=float(width * sum(_pairs(described))),
    )


def multiply_adds(workload: Workload) -> float:
    """Return the multiply-adds of one sample's forward; those of convolutions and dense layers."""
    described = _plain(workload)
    total = 0
    for layer, shape in zip(described, _shapes(described, workload.shape), strict=True):
        if isinstance(layer, Conv):
            total += layer.in_channels * layer.kernel**2 * math.prod(shape)
        elif isinstance(layer, Dense):
            total += layer.in_features * layer.out_features
    return float(total)


def num_layers(workload: Workload) -> int:
    """Return how many layers a workload's model can be cut into."""
    return len(_plain(workload))


def activations(described: tuple[Layer, ...], shape: models.Shape) -> list[int]:
    """Return how many numbers every layer puts out for one sample."""
    return [math.prod(one) for one in _shapes(described, shape)]


def _shapes(described: tuple[Layer, ...], shape: models.Shape) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    here: tuple[int, ...] = shape
    for layer in described:
        match layer:
            case Conv(out_channels=channels):
                here = (channels, *here[1:])
            case MaxPool(size=size):
                here = (here[0], here[1] // size, here[2] // size)
            case Flatten():
                here = (math.prod(here),)
            case Dense(out_features=features):
                here = (features,)
            case BatchNorm() | ReLU() | Dropout():
                pass
        found.append(here)
    return found


def _pairs(described: tuple[Layer, ...]) -> list[int]:
    """Return how many numbers the second layer of each pair puts out for one sample, as torch-tp pairs them."""
    found = []
    dense = [layer for layer in described if not isinstance(layer, ReLU | Dropout)]
    ahead = iter(itertools.pairwise(dense))
    for first, second in ahead:
        if isinstance(first, Dense) and isinstance(second, Dense):
            found.append(second.out_features)
            next(ahead, None)
    return found


def _plain(workload: Workload) -> tuple[Layer, ...]:
    described = models.layers(workload)
    if models.has_blocks(described):
        raise UsageError(
            f"expected a workload of plain layers but {workload.name!r} holds PyTorch modules, whose shapes are not "
            "known without PyTorch; name a published model with --model instead"
        )
    return described


def _told(num_bytes: float | None, what: str) -> float:
    if num_bytes is None:
        raise UsageError(
            f"expected a model whose activations are known, to predict {what}, but only its parameters are; "
            "name a workload of plain layers with --workload"
        )
    return num_bytes
