"""How far clean cases stay below the oracle's threshold, and how far real bugs lie above it.

200 clean float64 cases with random seeds, models, batches, world sizes 2 to 4, SGD and AdamW; then ten injected bugs,
each under SGD, under AdamW, and under AdamW with clipping.

    python suites/performance/bench_oracle_margin.py [--cases 200]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from benching import runner, tell

from harness import jobs
from harness.errors import SpecError
from harness.faults import base as faults
from harness.models.base import BatchNorm, Conv, Dense, Dropout, Flatten, Layer, MaxPool, ReLU
from harness.record import Verdict
from harness.resolve import address
from harness.runner import Runner
from harness.spec import Case, Check, Fault, Optimizer, Schedule, Workload
from harness.strategies import base as strategies

STRATEGIES = ("torch-ddp", "torch-ddp", "torch-threads", "torchgpipe")
# Bugs that rounding could be confused with least; the bound of the issue is for these, and these are all of them.
NEEDS = {"unsynchronised-buffers": "batchnorm", "clip-per-rank": "clip"}


def narrow_bn_cnn(shape: tuple[int, int, int], num_classes: int, dropout: float) -> tuple[Layer, ...]:
    """A convolution with batch norm, small enough for hundreds of cases."""
    channels, height, width = shape
    features = 4 * (height // 2) * (width // 2)
    last: tuple[Layer, ...] = (Dense(name="dense1", in_features=features, out_features=num_classes),)
    if dropout:
        last = (Dropout(name="dropout1", rate=dropout, shape=(features,)), *last)
    return (
        Conv(name="conv1", in_channels=channels, out_channels=4),
        BatchNorm(name="bn1", num_features=4),
        ReLU(),
        MaxPool(),
        Flatten(),
        *last,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Caught:
    """One bug under one optimizer: times the threshold, and where it showed first."""

    bug: str
    under: str
    verdict: Verdict

    @property
    def times_threshold(self) -> float:
        """How far beyond the threshold the bug lies at its clearest first sight; 0 when it was missed."""
        return self.verdict.divergence.times_threshold if self.verdict.divergence else 0.0


def random_case(draw: np.random.Generator, number: int) -> tuple[Case, Workload]:
    """Draw a clean case."""
    world_size = int(draw.integers(2, 5))
    accumulation = int(draw.integers(1, 3))
    # At least two samples for every rank and micro-batch, also in the uneven last batch.
    batch = world_size * accumulation * int(draw.integers(3, 9))
    rest = batch - int(draw.integers(0, batch // 3))
    adam = bool(draw.integers(2))
    workload = Workload(
        name=f"random-{number}",
        model=str(draw.choice(["mlp", "simple-cnn", address(narrow_bn_cnn)])),
        dataset="synthetic",
        shape=(int(draw.integers(1, 4)), 12, 12),
        num_classes=int(draw.integers(2, 11)),
        num_samples=4 * batch,
        optimizer=Optimizer(
            name="adamw" if adam else "sgd",
            learning_rate=float(draw.choice([1e-3, 3e-3] if adam else [0.01, 0.1])),
            momentum=0.9,
            nesterov=bool(draw.integers(2)),
            weight_decay=float(draw.choice([0.0, 1e-3, 1e-1])),
        ),
        schedule=Schedule(gamma=float(draw.choice([1.0, 0.5]))),
        clip_norm=None if draw.integers(2) else float(draw.choice([0.1, 1.0])),
        dropout=float(draw.choice([0.0, 0.25])),
        augment=str(draw.choice(["none", "shift"])),  # type: ignore[arg-type]
        accumulation=accumulation,
        global_batch=batch,
        seed=int(draw.integers(1 << 31)),
        check=Check(num_samples=2 * batch + rest, global_batch=batch, num_held_out=32),
    )
    strategy = str(draw.choice(STRATEGIES))
    return Case(workload=workload.name, strategy=strategy, world_size=world_size), workload


def possible_case(draw: np.random.Generator, number: int) -> tuple[Case, Workload]:
    """Draw clean cases until one gives every rank the samples it needs."""
    while True:
        case, workload = random_case(draw, number)
        try:
            jobs.validate(case, workload, strategies.get(case.strategy))
        except SpecError:
            continue
        return case, workload


def clean(own: Runner, num_cases: int) -> list[float]:
    """Return the margin (largest D / max(F, G)) of each clean case, telling each that is not equivalent."""
    draw = np.random.default_rng(20261120)
    margins, alarms = [], 0
    for number in range(num_cases):
        case, workload = possible_case(draw, number)
        verdict = own.verdict(case, workload)
        margins.append(verdict.margin or 0.0)
        if verdict.conclusion == "different":
            alarms += 1
            print(f"ALARM {case.id}: {verdict}", flush=True)
        elif not verdict.equivalent:
            print(f"{case.id}: {verdict}", flush=True)
        if number % 20 == 19:
            print(f"{number + 1} clean cases, {alarms} alarms, largest margin {max(margins):.2f}", flush=True)
    return margins


def bugs(own: Runner) -> list[Caught]:
    """Inject every bug under three optimizers."""
    sgd = Optimizer(name="sgd", learning_rate=0.05, momentum=0.9, weight_decay=1e-2)
    adam = Optimizer(name="adamw", learning_rate=1e-3, weight_decay=1e-2)
    found = []
    for under, optimizer, clip_norm in (("sgd", sgd, None), ("adamw", adam, None), ("adamw + clip", adam, 0.1)):
        for name in faults.bugs():
            need = NEEDS.get(name)
            workload = Workload(
                name=f"{name}-{under}",
                model=address(narrow_bn_cnn) if need == "batchnorm" else "simple-cnn",
                dataset="digits",
                optimizer=optimizer,
                clip_norm=0.1 if need == "clip" else clip_norm,
            )
            case = Case(workload=workload.name, strategy="torch-ddp", world_size=2)
            caught = Caught(bug=name, under=under, verdict=own.verdict(case, workload, Fault(name=name)))
            found.append(caught)
            where = caught.verdict.divergence
            seen = f"{where.rung}, step {where.step + 1}, rank {where.rank}" if where else str(caught.verdict)
            print(f"{name:24} {under:14} {caught.times_threshold:9.1e} x threshold  {seen}", flush=True)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200, help="clean cases")
    parsed = parser.parse_args()
    with runner() as own:
        margins = clean(own, parsed.cases)
        caught = bugs(own)
    largest, middle = max(margins), float(np.median(margins))
    missed = [f"{bug.bug} under {bug.under}" for bug in caught if bug.times_threshold <= 1]
    smallest = min(bug.times_threshold for bug in caught)
    print(f"{len(margins)} clean cases: margin median {middle:.2f}, largest {largest:.2f}; allowed 100")
    print(f"{len(caught)} bug runs, missed: {missed or 'none'}; smallest {smallest:.1e} x threshold")
    tell(
        "oracle_margin_clean",
        largest,
        "D / max(F, G)",
        low=float(np.percentile(margins, 5)),
        high=largest,
        goal="<= 10",
        holds=largest <= 10,
    )
    # Infinity is a sample that should not be there: whole numbers have no threshold.
    largest_bug = max(bug.times_threshold for bug in caught if np.isfinite(bug.times_threshold))
    tell(
        "oracle_margin_bugs",
        smallest,
        "x threshold",
        low=smallest,
        high=largest_bug,
        goal=">= 1e5",
        holds=smallest >= 1e5 and not missed,
    )


if __name__ == "__main__":
    main()
