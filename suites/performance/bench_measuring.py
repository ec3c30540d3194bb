"""What measuring costs: epochs with everything read and stamped, and the same ranks' epochs with nothing of it.

Two ranks of torch-ddp take turns with themselves, in three ways that begin anew in another order each round: measured
as every timed epoch is (stamps at each part of a step, counters before and after, looks in between), plain (a start and
an end), and plain again. The third says what this machine can resolve. Looks come twice a second, less often than these
epochs; here they come ten times as often, so that they are in the figure and cost more than they ever do. What one
takes is printed.

    python suites/performance/bench_measuring.py [--rounds 120] [--workload digits-cnn]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benching import runner, show, spread, tell_cost

from harness import jobs, workloads
from harness.launchers import meter
from harness.launchers.local import Session
from harness.measure import lease, machine
from harness.measure.epochs import walls
from harness.runner import Runner
from harness.spec import Case
from harness.strategies import base as strategies

LIMIT = 1.01
OFTEN = 10
NUM_WARMUP = 2
WORLD_SIZE = 2
MEASURED, PLAIN, AGAIN = "measured", "plain", "plain again"
SIDES = (MEASURED, PLAIN, AGAIN)


@contextmanager
def session(own: Runner, name: str) -> Iterator[Session]:
    """Two ranks of torch-ddp, each on its share of the machine, waiting for their turns."""
    case = Case(workload=name, strategy="torch-ddp", world_size=WORLD_SIZE)
    ddp = strategies.get(case.strategy)
    template = own.trainings.template(case, workloads.get(name), "timing")
    ranks = jobs.parallel(template, case, ddp, cpus=machine.shares(WORLD_SIZE))
    with own.pool.open([own.trainings.group(ddp, ranks)], timeout_s=own.settings.timeout_s) as opened:
        yield opened


def epoch_s(opened: Session, side: str) -> tuple[float, float]:
    """Return the seconds of one epoch, measured as this side is, and the CPU seconds that this process took for it."""
    opened.metered = side == MEASURED
    before_s = time.process_time()
    (wall_s,) = walls([[epoch] for epoch in opened.epoch(0, parts=side == MEASURED)])
    return wall_s, time.process_time() - before_s


def measure(opened: Session, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return what each epoch of the three took, in turns; each round begins with another of them."""
    taken: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    for number in range(NUM_WARMUP + rounds):
        for turn in range(len(SIDES)):
            side = SIDES[(number + turn) % len(SIDES)]
            taken[side].append(epoch_s(opened, side))
    return {side: epochs[NUM_WARMUP:] for side, epochs in taken.items()}


def look_s(opened: Session, times: int = 50) -> list[float]:
    """Return the seconds of each of so many looks at the ranks, which wait meanwhile."""
    taken = []
    for _ in range(times):
        start_s = time.perf_counter()
        opened._meter(0)._look()
        taken.append(time.perf_counter() - start_s)
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=120, help="epochs of each side")
    parser.add_argument("--workload", default="digits-cnn", help="what is trained")
    parsed = parser.parse_args()
    apart_s, meter.LOOK_S = meter.LOOK_S, meter.LOOK_S / OFTEN
    with (
        runner() as own,
        lease.exclusive(label="bench_measuring", on_wait=print),
        session(own, parsed.workload) as opened,
    ):
        both = measure(opened, parsed.rounds)
        looks = look_s(opened)
        used = opened.used(0)
        opened.finish(0)
    taken = {side: [wall_s for wall_s, _ in pairs] for side, pairs in both.items()}
    show(taken)
    for side in taken:
        own_ms, low, high = (1e3 * value for value in spread([cpu_s for _, cpu_s in both[side]]))
        print(f"{side}: CPU of the supervisor, an epoch: {own_ms:.2f} ms, 5 to 95 %: {low:.2f} to {high:.2f}")
    for one in used:
        print(
            f"rank {one.rank}: {one.cpu_s / one.wall_s:.2f} cores busy, {one.memory_bytes / 2**20:.0f} MiB resident, "
            f"peak {one.peak_memory_bytes / 2**20:.0f} MiB"
        )
    middle, low, high = spread(looks)
    share = middle / max(apart_s, meter.LOOK_SHARE * middle)
    print(
        f"a look at {WORLD_SIZE} ranks: {1e3 * middle:.2f} ms, 5 to 95 %: {1e3 * low:.2f} to {1e3 * high:.2f}; "
        f"{share:.2%} of the time of one core in long epochs"
    )
    tell_cost("cost of measuring", "x the epoch without", taken[MEASURED], (taken[PLAIN], taken[AGAIN]), LIMIT)


if __name__ == "__main__":
    main()
