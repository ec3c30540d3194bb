"""What it costs to tell where the time of an epoch goes: epochs whose steps are stamped, and epochs that are not.

One and the same process trains both in turns, so that how its memory happens to lie weighs on both alike. A third kind
is like the second: the ratio of these two says what this machine can resolve. Each round begins with another kind.

    python suites/performance/bench_parts.py [--strategy torch-serial] [--rounds 60]
"""

from __future__ import annotations

import argparse

from benching import runner, show, tell_cost

from harness import jobs, workloads
from harness.launchers.local import Session
from harness.measure import lease, machine
from harness.measure.epochs import walls
from harness.runner import Runner
from harness.spec import Case
from harness.strategies import base as strategies

LIMIT = 1.01
NUM_WARMUP = 3
# The everyday one that is timed: a small model, whose steps are short beside what stamps cost.
WORKLOAD = "digits-cnn"
STAMPED, WHOLE, AGAIN = "stamped", "as a whole", "as a whole, again"


def measure(own: Runner, name: str, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each epoch of the three kinds, taken in turns."""
    strategy, workload = strategies.get(name), workloads.get(WORKLOAD)
    case = Case(workload=workload.name, strategy=name, world_size=1 if strategy.serial else 2)
    template = own.trainings.template(case, workload, "timing")
    ranks = jobs.parallel(template, case, strategy, cpus=machine.shares(2)[: case.world_size])
    with own.pool.open([own.trainings.group(strategy, ranks)], timeout_s=own.settings.timeout_s) as session:
        for _ in range(NUM_WARMUP):
            session.epoch(0)
        taken: dict[str, list[float]] = {STAMPED: [], WHOLE: [], AGAIN: []}
        for number in range(rounds):
            names = [*taken]
            for turn in range(len(names)):
                kind = names[(number + turn) % len(names)]
                taken[kind].append(_epoch_s(session, stamped=kind == STAMPED))
    return taken


def _epoch_s(session: Session, *, stamped: bool) -> float:
    epochs = session.epoch(0, parts=stamped)
    assert all(bool(epoch.parts) == stamped for epoch in epochs), "a loop tells parts when it is asked to, then only"
    (wall_s,) = walls([[epoch] for epoch in epochs])
    return wall_s


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategy", default="torch-serial", help="what trains, serial or on two ranks")
    parser.add_argument("--rounds", type=int, default=60, help="epochs of each kind")
    parsed = parser.parse_args()
    with runner() as own, lease.exclusive(label="bench_parts", on_wait=print):
        taken = measure(own, parsed.strategy, parsed.rounds)
    show(taken)
    unit = f"x the epoch of {parsed.strategy} without stamps"
    tell_cost("parts", unit, taken[STAMPED], (taken[WHOLE], taken[AGAIN]), LIMIT)


if __name__ == "__main__":
    main()
