"""What Lockstep's loop and its supervision cost: an epoch as the harness times it, and the same in a bare script.

Three processes on one and the same core, one thread each, take turns, and the others are stopped meanwhile: a rank of
torch-serial under the harness, the script bare_training.py, and that script again. The third says what this machine can
resolve: the ratio of the script to itself. They train the same: same weights, samples, order and rates, hence the same
losses, which is checked. (Other weights alone make an epoch 10 % slower: max-pooling branches on what it sees.)

By default malloc returns memory to the kernel whenever what is freed happens to lie last, up to a quarter of an epoch
goes into getting it back, and a process is lucky or not from its start to its end. So malloc is told to keep it, on all
sides; `--default-malloc` leaves it alone, and shows more of that luck than of the harness.

How a process's memory happens to lie makes a per cent, too, so all three are started anew now and then.

    python suites/performance/bench_overhead.py [--starts 4] [--runs 16] [--default-malloc]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from benching import Rival, rival, runner, show, tell_cost

from harness import jobs, workloads
from harness.datasets import base as datasets
from harness.launchers import pause
from harness.launchers.local import Session
from harness.measure import lease, machine
from harness.measure.statistics import paired_ratio
from harness.models import base as models
from harness.runner import Runner
from harness.spec import Arrangement, Case, Workload
from harness.strategies import base as strategies

LIMIT = 1.02
NUM_WARMUP = 2
# The everyday one that is timed: a small model, so that whatever a step costs beside its arithmetic weighs most.
WORKLOAD = "digits-cnn"
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "1000000000", "MALLOC_MMAP_THRESHOLD_": "1000000000"}
HARNESS, BARE, AGAIN = "the harness", "the script", "again"


def measure(own: Runner, runs: int) -> dict[str, list[float]]:
    """Return the seconds of each epoch of the three, taken in turns; each round begins with another of them."""
    workload, core = workloads.get(WORKLOAD), machine.cores()[0]
    taken: dict[str, list[float]] = {}
    with session(own, workload, core) as opened, rivals(own, workload, core) as (bare, again):
        scripts = {bare.process.pid, again.process.pid}
        guardian = next(child.pid for child in psutil.Process().children() if child.pid not in scripts)
        losses: list[float] = []

        def harness_epoch() -> float:
            epoch = opened.epoch(0)[0]
            return epoch.end_s - epoch.start_s

        def bare_epoch() -> float:
            took_s, loss = bare.ask()
            losses.append(loss)
            return took_s

        sides: list[tuple[str, Callable[[], float], int]] = [
            (HARNESS, harness_epoch, guardian),
            (BARE, bare_epoch, bare.process.pid),
            (AGAIN, lambda: again.ask()[0], again.process.pid),
        ]
        for number in range(NUM_WARMUP + runs):
            for turn in range(len(sides)):
                name, epoch_s, pid = sides[(number + turn) % len(sides)]
                taken.setdefault(name, []).append(alone(epoch_s, pid))
        require_same(opened.finish(0)[0].losses, losses)
    return {name: epochs[NUM_WARMUP:] for name, epochs in taken.items()}


@contextmanager
def session(own: Runner, workload: Workload, core: int) -> Iterator[Session]:
    """One rank of torch-serial on one core, waiting for its turn."""
    case = Case(workload=workload.name, strategy="torch-serial", world_size=1)
    serial = strategies.get(case.strategy)
    ranks = jobs.serial(own.trainings.template(case, workload, "timing"), case, serial, Arrangement(), cpus=(core,))
    with own.pool.open([own.trainings.group(serial, ranks)], timeout_s=own.settings.timeout_s) as opened:
        yield opened


@contextmanager
def rivals(own: Runner, workload: Workload, core: int) -> Iterator[tuple[Rival, Rival]]:
    """Two processes of the script, ready to train what the harness trains."""
    rate, decay = workload.optimizer.learning_rate, workload.schedule.gamma
    assert workload.seed == 0, "the script draws the order of the samples for seed 0"
    settings = (str(write_data(own, workload)), *map(str, (workload.global_batch, rate, decay, core)))
    with rival("bare_training.py", *settings) as first, rival("bare_training.py", *settings) as second:
        first.wait_until_ready()
        second.wait_until_ready()
        yield first, second


def write_data(own: Runner, workload: Workload) -> Path:
    """Write the samples and weights that the harness starts from for the scripts; return the folder."""
    folder = own.settings.scratch
    data = datasets.load(workload, cache=str(folder / "datasets"), data_root=None)
    np.save(folder / "images.npy", data.images)
    np.save(folder / "labels.npy", data.labels)
    np.savez(folder / "weights.npz", **models.seed_weights(workload))  # type: ignore[arg-type]
    return folder


def alone(measure: Callable[[], float], pid: int) -> float:
    """Return what ``measure`` returns while every process this one has started, but ``pid`` and its kin, is stopped."""
    others = [child for child in psutil.Process().children() if child.pid != pid]
    stopped = [process.pid for child in others for process in (child, *child.children(recursive=True))]
    pause.stop(stopped)
    try:
        return measure()
    finally:
        pause.go_on(stopped)


def require_same(ours: tuple[float, ...], theirs: list[float]) -> None:
    """Stop unless harness and script have had the same losses: else they have not done the same work."""
    if not np.allclose(ours, theirs, rtol=1e-3):
        raise SystemExit(f"expected the script to train as the harness does but the losses are\n{ours}\n{theirs}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=4, help="fresh processes of each side")
    parser.add_argument("--runs", type=int, default=16, help="epochs of each process")
    parser.add_argument("--default-malloc", action="store_true", help="let malloc return memory as it likes")
    parsed = parser.parse_args()
    # Read when a process is started: this one has started, the zygote and the scripts have not.
    os.environ.update({} if parsed.default_malloc else KEEP_MEMORY)
    with runner() as own, lease.exclusive(label="bench_overhead", on_wait=print):
        parts = [measure(own, parsed.runs) for _ in range(parsed.starts)]
    taken = {name: [epoch_s for part in parts for epoch_s in part[name]] for name in parts[0]}
    for part in parts:
        ours, itself = (paired_ratio(part[name], part[BARE]).median for name in (HARNESS, AGAIN))
        print(f"fresh processes: the harness / the script {ours:.4f}, the script / itself {itself:.4f}")
    show(taken)
    tell_cost("overhead", "x the epoch of a bare script", taken[HARNESS], (taken[BARE], taken[AGAIN]), LIMIT)


if __name__ == "__main__":
    main()
