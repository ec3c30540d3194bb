"""What Lockstep's loop and its supervision cost: an epoch as the harness times it, and the same in a bare script.

Three processes on one and the same core, one thread each, take turns, and the others are stopped meanwhile: a rank of
torch-serial under the harness, the script bare_training.py, and that script again. The third says what this machine can
resolve: the ratio of the script to itself.

    python suites/performance/bench_overhead.py [--runs 40]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from benching import Rival, rival, runner, spread, tell

from harness import jobs, workloads
from harness.datasets import base as datasets
from harness.launchers import pause
from harness.launchers.local import Session
from harness.measure import lease, machine
from harness.measure.statistics import paired_ratio
from harness.measure.timing import series_warnings
from harness.runner import Runner
from harness.spec import Arrangement, Case, Workload
from harness.strategies import base as strategies

LIMIT = 1.02
NUM_WARMUP = 2
# Everyday training: a small model, so that whatever a step costs beside its arithmetic weighs most.
WORKLOAD = "digits-cnn"
HARNESS, BARE, AGAIN = "the harness", "the script", "again"


def write_data(own: Runner, workload: Workload) -> Path:
    """Write what the harness trains on for the scripts; return the folder."""
    folder = own.settings.scratch
    data = datasets.load(workload, cache=str(folder / "datasets"), data_root=None)
    np.save(folder / "images.npy", data.images)
    np.save(folder / "labels.npy", data.labels)
    return folder


@contextmanager
def session(own: Runner, workload: Workload, core: int) -> Iterator[Session]:
    """One rank of torch-serial on one core, waiting for its turn."""
    case = Case(workload=workload.name, strategy="torch-serial", world_size=1)
    serial = strategies.get(case.strategy)
    ranks = jobs.serial(own.template(case, workload, "timing"), case, serial, Arrangement(), cpus=(core,))
    with own.pool.open([own.group(serial, ranks)], timeout_s=own.settings.timeout_s) as opened:
        yield opened


def alone(measure: Callable[[], float], pid: int) -> float:
    """Return what ``measure`` returns while every process this one has started, but ``pid`` and its kin, is stopped."""
    others = [child for child in psutil.Process().children() if child.pid != pid]
    stopped = [process.pid for child in others for process in (child, *child.children(recursive=True))]
    pause.stop(stopped)
    try:
        return measure()
    finally:
        pause.go_on(stopped)


def measure(own: Runner, runs: int) -> dict[str, list[float]]:
    """Return the seconds of each epoch of the three, taken in turns; each round begins with another of them."""
    workload, core = workloads.get(WORKLOAD), machine.cores()[0]
    arguments = (str(write_data(own, workload)), str(workload.global_batch), str(core))
    taken: dict[str, list[float]] = {}
    with session(own, workload, core) as opened, rivals("bare_training.py", *arguments) as (bare, again):
        scripts = {bare.process.pid, again.process.pid}
        guardian = next(child.pid for child in psutil.Process().children() if child.pid not in scripts)

        def harness_epoch() -> float:
            epoch = opened.epoch(0)[0]
            return epoch.end_s - epoch.start_s

        sides = [(HARNESS, harness_epoch, guardian)]
        sides += [(BARE, bare.measure, bare.process.pid), (AGAIN, again.measure, again.process.pid)]
        for number in range(NUM_WARMUP + runs):
            for turn in range(len(sides)):
                name, epoch_s, pid = sides[(number + turn) % len(sides)]
                taken.setdefault(name, []).append(alone(epoch_s, pid))
        opened.finish(0)
    return {name: epochs[NUM_WARMUP:] for name, epochs in taken.items()}


@contextmanager
def rivals(script: str, *arguments: str) -> Iterator[tuple[Rival, Rival]]:
    """Two processes of one script, ready."""
    with rival(script, *arguments) as first, rival(script, *arguments) as second:
        first.wait_until_ready()
        second.wait_until_ready()
        yield first, second


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40, help="epochs of each side (at least 6 for an interval)")
    parsed = parser.parse_args()
    with runner() as own, lease.exclusive(label="bench_overhead", on_wait=print):
        taken = measure(own, parsed.runs)
    for name, epochs in taken.items():
        middle, low, high = spread(epochs)
        print(f"{name:12} {len(epochs)} epochs: median {middle:.4f} s, 5 to 95 %: {low:.4f} to {high:.4f}")
        for warning in series_warnings(name, epochs):
            print(f"  {warning}")
    itself = paired_ratio(taken[AGAIN], taken[BARE])
    print(f"the script / itself: {itself.median:.4f} [{itself.low:.4f}, {itself.high:.4f}]")
    ratio = paired_ratio(taken[HARNESS], taken[BARE])
    tell(
        "overhead",
        ratio.median,
        "x the epoch of a bare script",
        low=ratio.low,
        high=ratio.high,
        goal=f"<= {LIMIT}",
        holds=ratio.median <= LIMIT,
    )


if __name__ == "__main__":
    main()
