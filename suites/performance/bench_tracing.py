"""What tracing costs: a step of the equality check with every rung recorded, and the same step with none.

One process, one thread. Two trainings take turns, a step each: one records, the other has no taps. They train the same
serial steps in float64. The figure is the median of the ratios of neighbouring steps, in seconds of the processor,
which other processes do not lengthen. What taps cost that are told not to record, as in a timed training, is measured
by itself and held against a step without them.

    python suites/performance/bench_tracing.py [--workloads digits-mlp,digits-mnist-cnn] [--rounds 60]
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from benching import spread, tell

from harness import plan, workloads
from harness.spec import Job, Workload

RECORDING, WITHOUT = "recording", "without taps"
NUM_WARMUP = 6


class _NoTaps:
    """Stands for taps and recorder alike; whatever is called returns at once."""

    on = False

    def __getattr__(self, _name: str) -> Any:
        return _nothing


def _nothing(*_args: object, **_settings: object) -> None:
    """Do nothing."""


def job_of(workload: Workload, folder: Path) -> Job:
    """Return the job of a serial check."""
    return Job(function="-:-", strategy="torch-serial", workload=workload, directory=str(folder), cache=str(folder))


def stepping(workload: Workload, folder: Path, taps: str) -> Iterator[float]:
    """Train the check's steps over and over; yield each one's seconds, from its first sample to its last tap."""
    from harness.loops import torch_loop

    steps = tuple(itertools.islice(plan.check_steps(workload), workload.check.num_steps))
    while True:
        training: Any = torch_loop.Training(job_of(workload, folder), torch_loop.SERIAL)
        if taps == WITHOUT:
            training.recorder = training.taps = _NoTaps()
        training.taps.after_update(-1, training.optimizer, initial=True)
        for step in steps:
            start = time.process_time()
            training.taps.begin(step)
            loss = training.train_step(step)
            training.taps.activations()
            training.recorder.tap("loss", step.number, "loss", loss.cpu().numpy())
            training.taps.data_order(step.number, length=workload.check.global_batch)
            training.taps.after_update(step.number, training.optimizer)
            yield time.process_time() - start


def measure(workload: Workload, rounds: int) -> dict[str, list[float]]:
    """Return the processor seconds of the steps of each kind, taken in turns."""
    with tempfile.TemporaryDirectory() as folder:
        sides = {name: stepping(workload, Path(folder), name) for name in (RECORDING, WITHOUT)}
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(NUM_WARMUP + rounds):
            for name in sorted(sides, reverse=bool(number % 2)):
                taken[name].append(next(sides[name]))
    return {name: times[NUM_WARMUP:] for name, times in taken.items()}


def idle(workload: Workload, repeats: int = 10_000) -> float:
    """Return the seconds that a step's taps take in a timed training, where they record nothing."""
    from harness.loops import torch_loop

    with tempfile.TemporaryDirectory() as folder:
        job = msgspec.structs.replace(job_of(workload, Path(folder)), purpose="timing")
        taps = torch_loop.Training(job, torch_loop.SERIAL).taps
        samples = np.arange(workload.check.global_batch)
        start = time.process_time()
        for _ in range(repeats):
            taps.samples(samples)
            taps.before_forward()
            taps.gradients("gradients before clipping", 0)
            taps.gradients("gradients after clipping", 0)
        return (time.process_time() - start) / repeats


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", default="digits-mlp,digits-mnist-cnn")
    parser.add_argument("--rounds", type=int, default=60, help="timed steps of each kind")
    parsed = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    for name in parsed.workloads.split(","):
        taken = measure(workloads.get(name), parsed.rounds)
        for side, times in taken.items():
            middle, low, high = spread([1e3 * seconds for seconds in times])
            print(f"{name}, {side}: {middle:.3f} ms a step ({low:.3f} to {high:.3f})")
        ratios = [on / without for on, without in zip(taken[RECORDING], taken[WITHOUT], strict=True)]
        middle, low, high = spread(ratios)
        tell(f"tracing_{name}", middle, "x the bare step", low=low, high=high, goal="<= 3", holds=middle <= 3)
        shares = [100 * idle(workloads.get(name)) / float(np.median(taken[WITHOUT])) for _ in range(5)]
        middle, low, high = spread(shares)
        tell(f"tracing_off_{name}", middle, "% of a step", low=low, high=high, goal="<= 1", holds=middle <= 1)


if __name__ == "__main__":
    main()
