"""How far PyTorch and Keras are from plain numpy, from the same seed weights: the largest D / max(F, G) of each pair.

Serial trainings of the shipped workloads on digits that all of them train, layer by layer, in float64; the reruns of
both sides give the floor. The goal is that even the largest is well below the threshold.
"""

from __future__ import annotations

import itertools
import statistics
import time

import benching

from harness import support, workloads
from harness.oracles.precision import precision_of
from harness.strategies import base as strategies

SIDES = ("numpy-serial", "torch-serial", "keras-serial")


def main() -> None:
    margins: dict[tuple[str, str], list[float]] = {pair: [] for pair in itertools.combinations(SIDES, 2)}
    with benching.runner() as own:
        sides = [strategies.get(side) for side in SIDES]
        for name, declared in workloads.workloads().items():
            if not name.startswith("digits-") or any(support.limit(declared.workload, side) for side in sides):
                continue
            for (first, second), found in margins.items():
                started = time.monotonic()
                verdict = own.frameworks(declared.workload, first, second)
                assert verdict.equivalent, verdict
                assert verdict.margin is not None
                found.append(verdict.margin)
                closest = max(verdict.rungs, key=lambda summary: summary.ratio)
                where = f"{closest.rung}, {closest.tensor}, step {closest.step}"
                took = time.monotonic() - started
                print(f"{name:26} {first:>12} {second:>12} {verdict.margin:6.2f}  {took:5.1f} s  {where}", flush=True)
    for (first, second), found in margins.items():
        largest = f"median {statistics.median(found):.1f}, largest {max(found):.1f}"
        print(f"{first} and {second}, {len(found)} workloads: {largest}")
    every = [margin for found in margins.values() for margin in found]
    limit = precision_of("float64").factor / 5
    benching.tell(
        "frameworks",
        max(every),
        "D / max(F, G)",
        low=min(every),
        high=max(every),
        goal=f"at most {limit:g}, a fifth of the threshold",
        holds=max(every) <= limit,
    )


if __name__ == "__main__":
    main()
