"""What rounding does, what bugs do, and how well the oracle's threshold tells them apart in each precision.

Three measurements, kept as JSON for ``plot_oracle.py`` and docs/oracle.md: closest calls D / max(F, G) of injected bugs
and of the same trainings without one; of gradients that are wrong by a share of 1e-1 down to 1e-8; and the relative
rounding error of every layer's gradient in deep networks, beside a bound from theory.

    python suites/performance/bench_rounding.py [--seeds 3] [--out FILE]
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import graded_ddp
import msgspec
import numpy as np
from benching import HERE, runner, tell

sys.path.insert(0, str(HERE.parent / "conformance"))

import clean_drawing

from harness import jobs
from harness.errors import HarnessError
from harness.faults import base as faults
from harness.models import base as models
from harness.models.base import Conv, Dense, Flatten, Layer, ReLU, Shape
from harness.oracles.evidence import find, gather
from harness.oracles.precision import PRECISIONS
from harness.resolve import address
from harness.runner import Runner
from harness.spec import Arrangement, Case, Check, Fault, Optimizer, Schedule, Setting, Workload
from harness.strategies import base as strategies

Row = dict[str, Any]
# Powers of ten of the share by which gradients are wrong, in float64 and in what rounds to 24 bits or fewer.
POWERS = {"float64": (2, 4, 6, 8, 10, 11, 12, 13, 14), "less": (1, 2, 3, 4, 5, 6)}
# Bound of TTrace (arXiv 2506.09280) on the relative error of layer l of L: k C^(L + 1 - l) eps.
BOUND_K, BOUND_C = 4.0, 1.03
# Machine epsilon of what a forward and backward compute in.
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "fp16": 2.0**-10, "bf16": 2.0**-7}


# -- trainings -------------------------------------------------------------------------------------------------------


def deep_mlp(shape: Shape, num_classes: int, dropout: float, *, depth: int = 20, width: int = 24) -> tuple[Layer, ...]:
    """Dense layers of one width, each but the last behind a ReLU."""
    del dropout
    sizes = [math.prod(shape), *[width] * (depth - 1), num_classes]
    layers: list[Layer] = [Flatten()]
    for number in range(depth):
        layers.append(Dense(name=f"dense{number + 1}", in_features=sizes[number], out_features=sizes[number + 1]))
        layers.append(ReLU())
    return tuple(layers[:-1])


def deep_cnn(shape: Shape, num_classes: int, dropout: float, *, depth: int = 12, width: int = 6) -> tuple[Layer, ...]:
    """Convolutions of one width, each behind a ReLU, and a dense layer."""
    del dropout
    channels = [shape[0], *[width] * (depth - 1)]
    layers: list[Layer] = []
    for number, ins in enumerate(channels):
        layers += [Conv(name=f"conv{number + 1}", in_channels=ins, out_channels=width), ReLU()]
    features = width * shape[1] * shape[2]
    return (*layers, Flatten(), Dense(name=f"dense{depth + 1}", in_features=features, out_features=num_classes))


MODELS: dict[str, tuple[str, dict[str, Setting]]] = {
    "mlp": ("mlp", {"width": 24, "depth": 3}),
    "simple-cnn": ("simple-cnn", {"width": 4}),
    "bn-cnn": (address(clean_drawing.narrow_bn_cnn), {"width": 4}),
    "transformer": ("transformer", {"dim": 16, "depth": 1, "heads": 2, "patch": 2}),
}
OPTIMIZERS = {
    "sgd": Optimizer(name="sgd", learning_rate=0.05, momentum=0.9, weight_decay=1e-2),
    "adamw": Optimizer(name="adamw", learning_rate=1e-3, weight_decay=1e-2),
}


def in_precision(workload: Workload, precision: str) -> Workload:
    """Return the workload judged in one of PRECISIONS."""
    low = precision in ("bf16", "fp16")
    check = msgspec.structs.replace(workload.check, dtype="float32" if low else precision)
    return msgspec.structs.replace(workload, check=check, precision=precision if low else "full")


def trainings(num_seeds: int) -> Iterator[tuple[Row, Workload]]:
    """Yield every model under every optimizer with its own seeds, in every precision; clipped for every other seed."""
    for seed in range(num_seeds):
        for model, (described, options) in MODELS.items():
            for name, optimizer in OPTIMIZERS.items():
                workload = Workload(
                    name=f"{model}-{name}-{seed}",
                    model=described,
                    model_options=options,
                    dataset="synthetic",
                    shape=(1, 8, 8),
                    num_samples=96,
                    num_classes=5,
                    optimizer=optimizer,
                    schedule=Schedule(gamma=0.5),
                    clip_norm=0.1 if seed % 2 else None,
                    accumulation=2 if seed % 3 == 2 else 1,
                    seed=1000 + seed,
                    check=Check(num_samples=45, global_batch=16, num_steps=6, num_held_out=31),
                )
                for precision in PRECISIONS:
                    row = {"model": model, "optimizer": name, "seed": seed, "precision": precision}
                    yield row, in_precision(workload, precision)


# -- bugs ------------------------------------------------------------------------------------------------------------


def struck(own: Runner, num_seeds: int) -> Iterator[Row]:
    """Yield the closest calls of every training: clean, under every bug that can act on it, and wrong by a share."""
    for row, workload in trainings(num_seeds):
        for kind, strategy, fault in ways(workload):
            case = Case(workload=workload.name, strategy=strategy, world_size=2)
            try:
                verdict = own.judge_once(case, workload, fault)
            except HarnessError as error:
                print(f"{row} {kind}: {str(error).partition(chr(10))[0]}", flush=True)
                continue
            ratios = {found.rung: rounded(found.ratio) for found in verdict.rungs}
            yield row | {"kind": kind, "conclusion": verdict.conclusion, "rungs": ratios}
        print(f"{row} done", flush=True)


def ways(workload: Workload) -> Iterator[tuple[str, str, Fault | None]]:
    """Yield how a workload is trained: (kind, strategy, fault)."""
    yield "clean", "torch-ddp", None
    for name, bug in faults.bugs().items():
        if _shows(bug, workload):
            yield name, "torch-ddp", Fault(name=name)
            for part, settings in bug.partial.items():
                yield f"{name}: {part}", "torch-ddp", Fault(name=name, settings=dict(settings))
    for power in POWERS["float64" if jobs.exact(workload) else "less"]:
        # Options are written without exponents.
        yield f"wrong by 1e-{power}", f"graded-ddp+by={10.0**-power:.{power}f}", None


def _shows(bug: faults.Bug, workload: Workload) -> bool:
    """Whether a bug can act on the workload, and shows in values rather than by failing."""
    # Models are named for their batch norm.
    needed = all(getattr(workload, field) == value for field, value in bug.needs.items() if field != "model")
    if not needed or ("model" in bug.needs and not models.has_batchnorm(models.layers(workload))):
        return False
    site = faults.Site(workload=workload, strategy="torch-ddp", world_size=2)
    return faults.refusal(Fault(name=bug.name), site) is None and not bug.expects(site).failure


def rounded(value: float) -> float:
    """Return four digits of a ratio."""
    return float(f"{value:.4g}")


# -- depth -----------------------------------------------------------------------------------------------------------


def by_layer(own: Runner, num_seeds: int) -> Iterator[Row]:
    """Yield for every layer of deep networks the relative rounding error of its gradient, measured floor and bound.

    The error is between the first steps of two sound runs of one training: plain, and with the samples of a batch
    permuted and summed in three parts. The floor is the oracle's, of two other reruns.
    """
    foreign = Arrangement(shards=3, permute=77)
    for describe, shape in ((deep_mlp, (1, 8, 8)), (deep_cnn, (2, 6, 6))):
        for seed in range(num_seeds):
            for precision in PRECISIONS:
                workload = Workload(
                    name=f"{describe.__name__}-{seed}",
                    model=address(describe),
                    dataset="synthetic",
                    shape=shape,
                    num_samples=96,
                    num_classes=5,
                    seed=2000 + seed,
                    check=Check(num_samples=48, global_batch=24, num_steps=2, num_held_out=16),
                )
                row = {"model": describe.__name__, "seed": seed, "precision": precision}
                yield from _layers(own, in_precision(workload, precision), foreign, row)


def _layers(own: Runner, workload: Workload, foreign: Arrangement, row: Row) -> Iterator[Row]:
    plain = jobs.plain_runs(workload, 2)
    case = Case(workload=workload.name, strategy="torch-serial", world_size=1)
    _, found = own.trainings.beside([], case, workload, strategies.get("torch-serial"), (*plain, foreign))
    reference, *reruns = (found[run] for run in plain)
    evidence = gather(
        reference=reference,
        reruns=[(f"rerun {number}", reference, again) for number, again in enumerate(reruns)],
        parallel=[found[foreign]],
        dtype=row["precision"],
    )
    gradients = find(evidence.comparisons, "gradients before clipping")
    assert gradients is not None
    weights = [number for number, tensor in enumerate(gradients.tensors) if tensor.name.endswith(".weight")]
    for layer, number in enumerate(weights, start=1):
        size, allowed = gradients.size[0, number], gradients.floor[0, number] * evidence.factor
        bound = BOUND_K * BOUND_C ** (len(weights) + 1 - layer) * EPSILON[row["precision"]]
        shown = {"error": gradients.deviation[0, 0, number] / size, "floor": gradients.floor[0, number] / size}
        shown |= {"allowed": allowed / size, "bound": bound}
        yield row | {"layer": layer, "of": len(weights)} | {name: rounded(float(v)) for name, v in shown.items()}


# -- what it comes to ------------------------------------------------------------------------------------------------


def score(row: Row) -> float:
    """Return the largest ratio over the rungs."""
    return max(row["rungs"].values(), default=0.0)


def area(clean: list[float], bugs: list[float]) -> float:
    """Return how often a bug's score exceeds a clean one's, ties counted half: the area under the ROC curve."""
    low, high = np.asarray(clean)[:, None], np.asarray(bugs)[None, :]
    return float(np.mean((high > low) + 0.5 * (high == low)))


def main() -> None:
    """Measure, keep and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="of every model and optimizer")
    parser.add_argument("--out", type=Path, help="where to keep what was measured, as .json.gz")
    parsed = parser.parse_args()
    strategies.discover()
    with runner(power=False) as own:
        depth = list(by_layer(own, parsed.seeds))
        runs = list(struck(own, parsed.seeds))
    if parsed.out:
        with gzip.GzipFile(parsed.out, "wb", mtime=0) as file:
            file.write(json.dumps({"depth": depth, "runs": runs}, separators=(",", ":")).encode())
    areas = {}
    for precision, constants in PRECISIONS.items():
        rows = [row for row in runs if row["precision"] == precision]
        clean = [score(row) for row in rows if row["kind"] == "clean"]
        bugs = [score(row) for row in rows if row["kind"] in faults.bugs()]
        areas[precision] = area(clean, bugs)
        caught = sum(ratio > constants.factor for ratio in bugs)
        print(
            f"{precision:8} {len(clean)} clean runs, largest {max(clean):.2f}; {caught} of {len(bugs)} bug runs beyond "
            f"K={constants.factor:g}, smallest {min(bugs):.3g}; area under the ROC curve {areas[precision]:.4f}"
        )
        exceeded = [row for row in depth if row["precision"] == precision and row["error"] > row["bound"]]
        print(f"{'':8} the bound from theory is exceeded at {len(exceeded)} of {_count(depth, precision)} layers")
    figure = areas["float64"]
    tell("rounding_roc_float64", figure, "area", low=min(areas.values()), high=figure, goal="1", holds=figure == 1.0)


def _count(rows: list[Row], precision: str) -> int:
    return sum(row["precision"] == precision for row in rows)


assert graded_ddp, "declares the strategy by being imported"

if __name__ == "__main__":
    main()
