"""What sketches of large tensors tell beside all their values, and what they cost beside a training step.

Every injected bug on every strategy that can express it, and every strategy without one, is judged twice: with all
values and with sketches of every tensor of more than 16. Then an MLP of a million to a hundred million parameters is
trained in float32 on a batch of 256, and after every step all its gradients and parameters are sketched. Times are the
processor's, which other processes do not lengthen.

    python suites/performance/bench_sketches.py [--strategies torch-ddp,torch-fsdp] [--parameters 1e6,1e7,1e8]
        [--optimizers sgd,adamw] [--rounds 15] [--threads 1]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from benching import runner, spread, tell

from harness.errors import HarnessError
from harness.faults import base as faults
from harness.record import SKETCH_SIZE, Verdict
from harness.runner import Runner
from harness.sketches import sketch
from harness.spec import Case, Check, Fault, Optimizer, Workload
from harness.strategies import base as strategies

ABOVE = 16
BATCH = 256
SGD = Optimizer(name="sgd", learning_rate=0.05, momentum=0.9, weight_decay=1e-2)
# What ends a rank leaves no verdict.
DEADLY = ("rank-", "collective-order")


def pairs(names: Sequence[str]) -> Iterator[tuple[Case, Workload, str]]:
    """Yield a case, its workload and a bug ("" for none) for every pair of a bug and a strategy that can express it."""
    wanted = [
        ("", strategy, Workload(name="clean", model="mlp", dataset="digits", optimizer=SGD)) for strategy in names
    ]
    for bug in faults.bugs().values():
        plain = Workload(name=bug.name, model="mlp", dataset="digits", optimizer=SGD)
        trained = msgspec.structs.replace(plain, **bug.needs)
        if trained.shape[1:] == (28, 28) and "shape" in bug.needs:
            trained = msgspec.structs.replace(trained, dataset="synthetic")
        wanted += [
            (bug.name, strategy, trained)
            for strategy in bug.on
            if strategy.partition("+")[0] in names and not bug.name.startswith(DEADLY)
        ]
    for bug_name, strategy, trained in wanted:
        world_size = 4 if strategy in ("torch-hsdp", "torch-fsdp-tp", "torch-ddp-pp") else 2
        check = Check(dtype="float32" if strategy.startswith("deepspeed") else "float64")
        checked = msgspec.structs.replace(trained, check=check)
        yield Case(workload=trained.name, strategy=strategy, world_size=world_size), checked, bug_name


def judged(own: Runner, case: Case, trained: Workload, bug: str, above: int | None) -> Verdict | str:
    """Return the verdict, or what was raised instead of it."""
    check = msgspec.structs.replace(trained.check, sketch_above=above)
    try:
        trained = msgspec.structs.replace(trained, check=check)
        return own.verdict(case, trained, Fault(name=bug) if bug else None)
    except HarnessError as error:
        return type(error).__name__


def compare(names: Sequence[str]) -> None:
    """Judge every pair with all values and with sketches."""
    same, unlike, unjudged, ratios = 0, [], [], []
    with runner() as own:
        for case, trained, bug in pairs(names):
            full, sketched = (judged(own, case, trained, bug, above) for above in (None, ABOVE))
            label = f"{bug or 'clean'} on {case.strategy}"
            if isinstance(full, str) and full == sketched:
                unjudged.append(label)
                print(f"{label}: {full}", flush=True)
                continue
            ends = [seen if isinstance(seen, str) else seen.conclusion for seen in (full, sketched)]
            where = [_where(seen) for seen in (full, sketched)]
            if ends[0] == ends[1] and where[0] == where[1]:
                same += 1
            else:
                unlike.append(label)
                print(f"UNLIKE {label}: {full} / {sketched}", flush=True)
            times = [_times(seen) for seen in (full, sketched)]
            if all(np.isfinite(times)) and min(times) > 0:
                ratios.append(times[1] / times[0])
            print(f"{label}: {ends[0]} at {where[0]}, {times[0]:.3g} and {times[1]:.3g} x threshold", flush=True)
    middle, low, high = spread(ratios)
    print(
        f"{same + len(unlike)} pairs judged, {len(unlike)} unlike: {unlike or 'none'}; not judged: {unjudged or 'none'}"
    )
    print(f"distance in sketches / in values: median {middle:.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    told = same / max(1, same + len(unlike))
    tell("sketches_same_verdict", told, "of pairs", low=told, high=told, goal="= 1", holds=not unlike)
    tell("sketches_distance", middle, "x that of all values", low=low, high=high, goal="0.1 to 10", holds=low > 0.1)


def _where(seen: Verdict | str) -> tuple[str, int] | None:
    """Return rung and step of the divergence."""
    return (seen.divergence.rung, seen.divergence.step) if isinstance(seen, Verdict) and seen.divergence else None


def _times(seen: Verdict | str) -> float:
    return seen.divergence.times_threshold if isinstance(seen, Verdict) and seen.divergence else 0.0


def perceptron(num_parameters: int) -> Any:
    """Return an MLP of four square layers, about ``num_parameters`` in all."""
    from torch import nn

    width = round((num_parameters / 4) ** 0.5)
    layers = [module for _ in range(4) for module in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def cost(num_parameters: int, optimizer_name: str, rounds: int, num_threads: int) -> None:
    """Time steps and the sketches of all gradients and parameters, in turn, in seconds of the processor."""
    import torch

    from harness.loops.torch_taps import multiplied

    torch.set_num_threads(num_threads)
    model = perceptron(num_parameters)
    optimizer: torch.optim.Optimizer
    if optimizer_name == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    inputs = torch.randn(BATCH, model[0].in_features)
    count = sum(parameter.numel() for parameter in model.parameters())
    large = [parameter for parameter in model.parameters() if parameter.numel() > 1 << 16]

    def step() -> float:
        start = time.process_time()
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
        return time.process_time() - start

    def sketches() -> float:
        start = time.process_time()
        for parameter in large:
            assert parameter.grad is not None
            for value in (parameter.grad, parameter.detach()):
                size = sketch(value, multiply=multiplied).nbytes
                assert size == 8 * SKETCH_SIZE
        return time.process_time() - start

    for _ in range(2):
        step(), sketches()
    steps, costs = [], []
    for _ in range(rounds):
        steps.append(step())
        costs.append(sketches())
    shares = [100 * spent / full for spent, full in zip(costs, steps, strict=True)]
    middle, low, high = spread(shares)
    print(
        f"{count:.3g} parameters, {optimizer_name}, batch {BATCH}, {num_threads} threads: step "
        f"{1e3 * np.median(steps):.1f} ms, sketches {1e3 * np.median(costs):.2f} ms, {middle:.1f} % "
        f"({low:.1f} to {high:.1f})"
    )
    goal = "<= 5" if num_parameters >= 1e8 else "(told)"
    name = f"sketches_cost_{num_parameters:.0e}_{optimizer_name}".replace("+0", "")
    tell(name, middle, "% of a step", low=low, high=high, goal=goal, holds=goal == "(told)" or middle <= 5)


def main() -> None:
    """Measure and print."""
    strategies.discover()
    known = ",".join(sorted(name for name in strategies.strategies() if "serial" not in name))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategies", default=known, help="which to inject bugs into; empty for none")
    parser.add_argument("--parameters", default="1e6,1e7,1e8", help="sizes of the models that are timed")
    parser.add_argument("--optimizers", default="sgd,adamw")
    parser.add_argument("--rounds", type=int, default=15, help="timed steps")
    parser.add_argument(
        "--threads", type=int, default=1, help="of the timed training: a rank's share of two cores is one"
    )
    parsed = parser.parse_args()
    for size in filter(None, parsed.parameters.split(",")):
        for optimizer in parsed.optimizers.split(","):
            cost(int(float(size)), optimizer, parsed.rounds, parsed.threads)
    tell(
        "sketches_bytes",
        8 * SKETCH_SIZE,
        "bytes a tensor",
        low=8 * SKETCH_SIZE,
        high=8 * SKETCH_SIZE,
        goal="<= 4096",
        holds=8 * SKETCH_SIZE <= 4096,
    )
    if parsed.strategies:
        compare(parsed.strategies.split(","))


if __name__ == "__main__":
    main()
