"""How long one equality case takes, and how much longer the same case is as a test of PyTorch's own kind.

The case: torch-ddp on two fresh ranks, six steps in float64 on the digits, its serial reference, two reruns for the
rounding floor, and the verdict. Every case has a seed of its own, so nothing is kept from the one before. The other
side is a MultiProcessTestCase (torch.testing._internal.common_distributed), which spawns its ranks and lets each train
the serial reference, too. They take turns: a few cases, one test, and so on.

What a session pays once is told apart on both sides: the zygote's start here, the imports of the test's file there.

    python suites/performance/bench_case_latency.py [--rounds 6] [--cases 5]
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import case_stages
import msgspec
import numpy as np
import psutil
from benching import rival, runner, spread, tell

from harness import workloads
from harness.datasets import base as datasets
from harness.measure import lease
from harness.measure.statistics import interval, paired_ratio
from harness.runner import Runner
from harness.spec import Case, Workload

LIMIT_S, TIMES = 0.4, 20.0


def fresh() -> Iterator[Workload]:
    """Yield the same workload again and again, each time from another seed."""
    for seed in itertools.count(1):
        yield msgspec.structs.replace(workloads.get("digits-mlp"), seed=seed)


def judged(own: Runner, workload: Workload) -> float:
    """Return how many seconds a case takes from its job to its verdict."""
    began_s = time.monotonic()
    verdict = own.verdict(Case(workload=workload.name, strategy="torch-ddp", world_size=2), workload)
    took_s = time.monotonic() - began_s
    if not verdict.equivalent:
        raise SystemExit(f"the case that is timed must be equivalent, but {verdict}")
    return took_s


def start(own: Runner) -> float:
    """Start the zygote and return how many seconds the first case took with it."""
    began_s = time.monotonic()
    judged(own, workloads.get("digits-mlp"))
    return time.monotonic() - began_s


def write_data(own: Runner, folder: Path) -> None:
    """Write what the case trains on for the other side."""
    workload = workloads.get("digits-mlp")
    check = workload.check
    data = datasets.load(workload, cache=str(own.settings.scratch / "datasets"), data_root=None)
    np.save(folder / "images.npy", data.images[: check.num_samples].astype(check.dtype))
    np.save(folder / "labels.npy", data.labels[: check.num_samples])
    np.save(folder / "held_out.npy", data.held_out_images[: check.num_held_out].astype(check.dtype))


def measure(own: Runner, seeds: Iterator[Workload], rounds: int, num_cases: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each case and of each test, taken in turns, so many cases before each test."""
    cases: list[float] = []
    tests: list[float] = []
    began_s = time.monotonic()
    with rival("torch_multiprocess_case.py", environment={"LOCKSTEP_BENCH_DATA": str(own.settings.scratch)}) as torch:
        torch.wait_until_ready()
        print(f"once: the start of a file with a MultiProcessTestCase, {time.monotonic() - began_s:.1f} s", flush=True)
        for number in range(rounds):
            cases += [judged(own, next(seeds)) for _ in range(num_cases)]
            tests += torch.ask()
            print(
                f"round {number + 1} of {rounds}: case {np.median(cases[-num_cases:]):.3f} s, test {tests[-1]:.2f} s",
                flush=True,
            )
    return cases, tests


def tell_stages(own: Runner, seeds: Iterator[Workload], num_cases: int) -> None:
    """Print where the time of a case goes: the medians of its stages, and the processor time of its processes."""
    taken = [case_stages.stages(own, workload) for workload in itertools.islice(seeds, num_cases)]
    total = sum(float(np.median([stages[name] for stages in taken])) for name in case_stages.STAGES)
    print(f"\nwhere it goes (medians of {num_cases} further cases; two ranks, beside them three serial runs)")
    for name in case_stages.STAGES:
        figure, low, high = spread([stages[name] for stages in taken])
        print(f"  {name:36} {1e3 * figure:7.1f} ms  {figure / total:4.0%}   [{1e3 * low:.1f}, {1e3 * high:.1f}]")
    before = processor_s()
    for workload in itertools.islice(seeds, num_cases):
        judged(own, workload)
    used = {who: (after - before[who]) / num_cases for who, after in processor_s().items()}
    told = ", ".join(f"{who} {1e3 * spent_s:.0f} ms" for who, spent_s in used.items())
    print(
        f"  processor time of a case: {1e3 * sum(used.values()):.0f} ms ({told}); two cores need at least half of it\n"
    )


def processor_s() -> dict[str, float]:
    """Return the processor time used so far by the supervisor, the zygote and all ranks that have ended."""
    own = psutil.Process()
    zygote = next(child for child in own.children(recursive=True) if child.name() == "lockstep-zygote").cpu_times()
    return {
        "ranks": zygote.children_user + zygote.children_system,
        "zygote": zygote.user + zygote.system,
        "supervisor": sum(own.cpu_times()[:2]),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="tests of PyTorch's kind (at least 6 for an interval)")
    parser.add_argument("--cases", type=int, default=5, help="cases before each of them")
    parsed = parser.parse_args()
    with runner() as own, lease.exclusive(label="bench_case_latency", on_wait=print):
        print(f"once: the zygote's start and a first case, {start(own):.1f} s", flush=True)
        write_data(own, own.settings.scratch)
        seeds = fresh()
        cases, tests = measure(own, seeds, parsed.rounds, parsed.cases)
        tell_stages(own, seeds, 10)
    near = [float(np.median(block)) for block in np.array(cases).reshape(parsed.rounds, parsed.cases)]
    middle, low, high = spread(cases)
    known, ratio = interval(cases), paired_ratio(tests, near)
    print(f"{len(cases)} cases: median {middle:.3f} s, 95 % interval [{known.low:.3f}, {known.high:.3f}]")
    print(
        f"{len(tests)} tests of PyTorch's kind: median {np.median(tests):.2f} s, {min(tests):.2f} to {max(tests):.2f}"
    )
    tell("case_latency", middle, "s", low=low, high=high, goal=f"<= {LIMIT_S}", holds=middle <= LIMIT_S)
    tell(
        "case_latency_ratio",
        ratio.median,
        "x faster than MultiProcessTestCase",
        low=ratio.low,
        high=ratio.high,
        goal=f">= {TIMES:g}",
        holds=ratio.median >= TIMES,
    )


if __name__ == "__main__":
    main()
