"""What it costs that every verdict carries its power: a case with its mutants against the same case without them.

Each pair is two seeds of one workload, one judged with mutants and one without, in turns; both train their references
and reruns, as the first case of a workload does.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time

import msgspec
import numpy as np
from benching import runner, tell

from harness import workloads
from harness.runner import Runner
from harness.spec import Case

STRATEGIES = ("torch-ddp", "torch-zero1", "torch-fsdp", "torch-tp", "torch-pp", "torchgpipe", "torch-threads")
WORKLOADS = ("digits-mlp", "digits-cnn", "digits-cnn-adamw-clipped", "digits-transformer")


def judged_s(own: Runner, strategy: str, workload: str, seed: int) -> float:
    """Return how long a case takes that no other one has left anything for."""
    trained = msgspec.structs.replace(workloads.get(workload), seed=seed)
    start_s = time.monotonic()
    verdict = own.verdict(Case(workload=workload, strategy=strategy, world_size=2), trained)
    assert verdict.equivalent, verdict
    assert (verdict.power is not None) == own.settings.power
    return time.monotonic() - start_s


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="pairs of each strategy and workload")
    parsed = parser.parse_args()
    ratios = []
    seeds = itertools.count(1000)
    with runner() as own:
        without = Runner(dataclasses.replace(own.settings, power=False), own.pool, own.trainings.kept)
        for strategy, workload in itertools.product(STRATEGIES, WORKLOADS):
            judged_s(own, strategy, workload, next(seeds))  # zygotes start, and files are read for the first time
            found = []
            for number in range(parsed.pairs):
                order = (own, without) if number % 2 else (without, own)
                took = {each.settings.power: judged_s(each, strategy, workload, next(seeds)) for each in order}
                found.append(took[True] / took[False])
            ratios += found
            low, middle, high = np.percentile(found, [5, 50, 95])
            print(f"{strategy:16} {workload:26} {middle:.2f}x [{low:.2f}, {high:.2f}]", flush=True)
    low, middle, high = (float(value) for value in np.percentile(ratios, [5, 50, 95]))
    tell("power_cost", middle, "x the case without mutants", low=low, high=high, goal="<= 2", holds=middle <= 2)


if __name__ == "__main__":
    main()
