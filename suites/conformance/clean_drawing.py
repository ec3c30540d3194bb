"""Clean trainings at random: a workload and a number of ranks, and the sound strategies that must train it as serial.

Drawn by a seeded numpy generator, thousands of them in a second. Strategies are judged under one workload and one
number of ranks, since those share their reference runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import drawing
import numpy as np

from harness import support
from harness.errors import SpecError
from harness.models.base import BatchNorm, Conv, Dense, Flatten, Layer, MaxPool, ReLU, Shape, site
from harness.resolve import address
from harness.spec import Case, Check, DType, Optimizer, Precision, Schedule, Workload
from harness.strategies import base as strategies
from harness.strategies.base import Strategy

Draw = np.random.Generator
T = TypeVar("T")
# What a case is judged in, with its share: (the precision of the forward and backward, that of what is stored).
PRECISIONS: Mapping[tuple[Precision, DType], float] = {
    ("full", "float64"): 0.70,
    ("full", "float32"): 0.18,
    ("bf16", "float32"): 0.06,
    ("fp16", "float32"): 0.06,
}
MODELS = {"mlp": 0.32, "simple-cnn": 0.2, "tied-mlp": 0.1, "routed-mlp": 0.06, "bn-cnn": 0.2, "transformer": 0.12}
OPTIMIZERS: Mapping[Literal["sgd", "adam", "adamw"], float] = {"sgd": 0.4, "adam": 0.25, "adamw": 0.35}
AUGMENTED: Mapping[Literal["none", "shift"], float] = {"none": 0.7, "shift": 0.3}
# Families whose cases take longer, each with the share of the workloads that one of it is tried on.
SLOW = {
    "torch-fsdp-tp": 0.3,
    "torch-fsdp": 0.6,
    "torch-hsdp": 0.3,
    "deepspeed": 0.2,
    "horovod-torch": 0.2,
    "horovod-keras": 0.03,
    "tf-": 0.05,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """One workload on one number of ranks, and the strategies to judge on it."""

    workload: Workload
    world_size: int
    strategies: tuple[Strategy, ...]

    def cases(self) -> tuple[Case, ...]:
        """Return a case for each strategy."""
        return tuple(
            Case(workload=self.workload.name, strategy=strategy.name, world_size=self.world_size)
            for strategy in self.strategies
        )


def narrow_bn_cnn(shape: Shape, num_classes: int, dropout: float, *, width: int = 4) -> tuple[Layer, ...]:
    """A convolution with batch norm, whose bias has a gradient of nothing but rounding."""
    channels, height, columns = shape
    features = width * (height // 2) * (columns // 2)
    return (
        Conv(name="conv1", in_channels=channels, out_channels=width),
        BatchNorm(name="bn1", num_features=width),
        ReLU(),
        MaxPool(),
        Flatten(),
        *site(1, dropout, features),
        Dense(name="dense1", in_features=features, out_features=num_classes),
    )


def one_of(draw: Draw, values: Mapping[T, float] | tuple[T, ...]) -> T:
    """Draw one value, each equally often or by its share."""
    shares = list(values.values()) if isinstance(values, Mapping) else None
    return tuple(values)[int(draw.choice(len(values), p=shares))]


OPTIONS: Mapping[str, Callable[[Draw], dict[str, Any]]] = {
    "mlp": lambda draw: {"width": int(draw.integers(2, 25)), "depth": int(draw.integers(1, 5))},
    "simple-cnn": lambda draw: {"width": int(draw.integers(1, 7))},
    "tied-mlp": lambda draw: {"width": int(draw.integers(4, 33))},
    # Of such images about half are bright, and now and then none of a rank's.
    "routed-mlp": lambda draw: {"width": int(draw.integers(4, 17)), "threshold": 0.0},
    "bn-cnn": lambda draw: {"width": int(draw.integers(1, 7))},
    "transformer": lambda draw: {
        "dim": one_of(draw, (8, 16)),
        "depth": int(draw.integers(1, 3)),
        "heads": 2,
        "patch": 2,
    },
}


def drawn(seed: int, number: int, *, num_strategies: int = 12, others: bool = True) -> Drawn:
    """Draw clean case ``number`` of ``seed``: a workload that some strategy can train, and up to so many that can.

    Without ``others`` only the strategies of PyTorch itself and torchgpipe are drawn.
    """
    draw = np.random.default_rng([seed, number])
    while True:
        world_size = one_of(draw, {2: 0.65, 3: 0.2, 4: 0.15})
        try:
            workload = _workload(draw, f"clean-{seed}-{number}", world_size)
            chosen = _strategies(draw, workload, world_size, num_strategies, others)
        except SpecError:  # a model that such small images do not fit
            continue
        if chosen:
            return Drawn(workload=workload, world_size=world_size, strategies=chosen)


def _strategies(
    draw: Draw, workload: Workload, world_size: int, num_strategies: int, others: bool
) -> tuple[Strategy, ...]:
    """Draw strategies that can train the workload; of each slow family one, now and then."""
    families: dict[str, list[Strategy]] = {}
    for strategy in sound(world_size):
        families.setdefault(next((name for name in SLOW if strategy.name.startswith(name)), ""), []).append(strategy)
    found: list[Strategy] = []
    for family, members in families.items():
        wanted = 1 if family else num_strategies
        if family and draw.random() > SLOW[family]:
            continue
        if not others and not family.startswith("torch-") and family:
            continue
        for at in draw.permutation(len(members)):
            if wanted and _possible(workload, members[at], world_size):
                found.append(members[at])
                wanted -= 1
    return tuple(found)


def sound(world_size: int) -> list[Strategy]:
    """Return the strategies, variants included, that must equal serial on so many ranks of this machine's CPU."""
    return [
        strategy
        for declared in strategies.strategies().values()
        for strategy in (declared, *strategies.variants(declared).values())
        if not strategy.serial and strategy.equality == "exact" and "cpu" in strategy.backends
        if world_size in strategy.world_sizes and strategy.missing() is None
    ]


def _possible(workload: Workload, strategy: Strategy, world_size: int) -> bool:
    """Whether a strategy can train the workload, and is not known to differ there."""
    case = Case(workload=workload.name, strategy=strategy.name, world_size=world_size)
    return drawing.possible(case, workload, strategy) and support.finding(workload, strategy) is None


def _workload(draw: Draw, name: str, world_size: int) -> Workload:
    shape = one_of(draw, ((1, 4, 4), (1, 8, 8), (3, 6, 4), (2, 12, 12)))
    model = one_of(draw, MODELS)
    accumulation = one_of(draw, {1: 0.6, 2: 0.3, 3: 0.1})
    # At least two samples for every rank and micro-batch, also in the uneven last batch.
    batch = world_size * accumulation * int(draw.integers(3, 7))
    rest = batch - int(draw.integers(0, batch // 3)) if draw.random() < 0.8 else batch
    precision, dtype = one_of(draw, PRECISIONS)
    clip = one_of(draw, {"none": 0.5, "norm": 0.3, "value": 0.2})
    num_steps = int(draw.integers(3, 6))
    interrupted = draw.random() < 0.04
    return Workload(
        name=name,
        model=address(narrow_bn_cnn) if model == "bn-cnn" else model,
        model_options=OPTIONS[model](draw),
        dataset="synthetic",
        optimizer=_optimizer(draw),
        schedule=Schedule(gamma=one_of(draw, (1.0, 0.5)), every=int(draw.integers(1, 3))),
        accumulation=accumulation,
        clip_norm=one_of(draw, (0.1, 1.0)) if clip == "norm" else None,
        clip_value=0.01 if clip == "value" else None,
        frozen=("dense1",) if model in ("mlp", "simple-cnn") and draw.random() < 0.15 else (),
        precision=precision,
        dropout=one_of(draw, {0.0: 0.7, 0.25: 0.3}),
        augment=one_of(draw, AUGMENTED),
        seed=int(draw.integers(1 << 31)),
        num_samples=3 * batch,
        shape=shape,
        num_classes=int(draw.integers(2, 8)),
        global_batch=batch,
        check=Check(
            num_samples=2 * batch + rest,
            global_batch=batch,
            num_steps=num_steps,
            num_held_out=int(draw.integers(8, 20)),
            dtype=dtype,
            resume_at=int(draw.integers(1, num_steps)) if interrupted else None,
        ),
    )


def _optimizer(draw: Draw) -> Optimizer:
    name = one_of(draw, OPTIMIZERS)
    if name == "sgd":
        momentum = one_of(draw, (0.0, 0.5, 0.9))
        return Optimizer(
            learning_rate=one_of(draw, (0.05, 0.01)),
            momentum=momentum,
            nesterov=momentum > 0 and draw.random() < 0.5,
            weight_decay=one_of(draw, (0.0, 1e-3, 1e-1)),
        )
    return Optimizer(
        name=name,
        learning_rate=one_of(draw, (1e-3, 1e-2)),
        weight_decay=one_of(draw, (0.0, 1e-3, 1e-1)),
        betas=one_of(draw, ((0.9, 0.999), (0.8, 0.99))),
        epsilon=one_of(draw, (1e-8, 1e-6)),
    )
