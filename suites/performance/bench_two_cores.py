"""A network of MNIST's size under DDP on all cores: its efficiency, what the machine allows, what is lost where.

Everything is timed in turns: DDP, serial on one core, on all cores, at the per-rank batch, and as many serial runs at
once, which have nothing to do with each other and so show the machine's own limit. The trap: at global batch 256 a
sample costs serial more than it costs a rank at 128, so that DDP looks more than linear over serial.

"allowed" is what is left of the ideal after the batch, the machine and the communication that computing does not hide;
the goal is that the measured speed-up lies within 10 % of it, so that nothing is lost that is not told.

    python suites/performance/bench_two_cores.py [--data-root DIR] [--batch 256] [--samples 2048] [--rounds 12]
"""

from __future__ import annotations

import argparse

import msgspec
from benching import runner, tell

from harness import workloads
from harness.measure import lease, machine
from harness.measure.losses import allowed
from harness.measure.sampling import Plan
from harness.report import words
from harness.spec import Case
from harness.timer import Settings, Timer
from harness.timings import Timing

WITHIN = 0.10


def measure(parsed: argparse.Namespace) -> Timing:
    """Return the times of DDP on all cores."""
    name = "mnist-cnn" if parsed.data_root else "digits-mnist-cnn"
    workload = msgspec.structs.replace(
        workloads.get(name),
        name="two-cores",
        global_batch=parsed.batch,
        epochs=parsed.rounds,
        num_samples=parsed.samples if parsed.data_root else None,
        dropout=0.0,
    )
    case = Case(workload=workload.name, strategy="torch-ddp", world_size=len(machine.cores()))
    with (
        runner(power=False, data_root=parsed.data_root) as own,
        lease.exclusive(label="bench_two_cores", on_wait=print),
    ):
        verdict = own.verdict(case, workload)
        timer = Timer(own, Settings(sampling=Plan(precision=0.01, budget_s=parsed.budget)))
        timed = timer.time(case, workload, verdict)
    print(f"{workload.name} ({name}), batch {parsed.batch}: {verdict.conclusion}")
    if timed.timing.struck:
        raise SystemExit(f"nothing to measure: {timed.timing.struck}")
    return timed.timing


def show(timing: Timing, world_size: int) -> None:
    """Print every baseline, the chain of losses, and where the ranks' time goes."""
    assert timing.sampling is not None
    print(f"{timing.sampling.num_rounds} rounds, stopped: {timing.sampling.stopped}, A/A {timing.aa}")
    for baseline in timing.baselines:
        limit = "" if baseline.num_processes == 1 else f" ({baseline.num_processes} at once)"
        print(f"  over {baseline.name + limit:32} {words.speedup(baseline.speedup)}, {baseline.num_threads} threads")
    print(f"  {world_size} ranks, ideal {world_size}.00x")
    for loss in timing.losses:
        print(f"  x {words.speedup(loss.factor):28} {loss.name}: {loss.words}")
    if timing.breakdown:
        parts = sorted({part for rank in timing.breakdown.ranks for part in rank})
        for number, rank in enumerate(timing.breakdown.ranks):
            print(f"  rank {number}: " + ", ".join(f"{part} {1e3 * rank.get(part, 0.0):.1f} ms" for part in parts))
        print(f"  accounted for: {timing.breakdown.accounted:.1%} of the time")
    for warning in timing.warnings:
        print(f"  {warning}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", help="the folder with MNIST's own files; without it, scikit-learn's digits")
    parser.add_argument("--batch", type=int, default=256, help="the global batch")
    parser.add_argument("--samples", type=int, default=2_048, help="samples an epoch, of MNIST's 60,000")
    parser.add_argument("--rounds", type=int, default=12, help="timed rounds at least")
    parser.add_argument("--budget", type=float, default=240.0, help="seconds of timed rounds at most")
    parsed = parser.parse_args()
    world_size = len(machine.cores())
    timing = measure(parsed)
    show(timing, world_size)
    assert timing.speedup is not None
    assert timing.efficiency is not None
    limit = allowed(timing.losses, world_size)
    assert limit is not None
    exposed = timing.breakdown.exposed if timing.breakdown else None
    epoch_s = sorted(timing.epoch_wall_s)[len(timing.epoch_wall_s) // 2]
    left = limit * (1 - (exposed.median / epoch_s if exposed else 0.0))
    reached = words.speedup(timing.speedup)
    print(f"  batch and machine allow {limit:.2f}x, exposed communication leaves {left:.2f}x: {reached}")
    tell(
        "two_cores",
        timing.efficiency.median,
        f"efficiency at {world_size} ranks over serial ({timing.efficiency_over})",
        low=timing.efficiency.low,
        high=timing.efficiency.high,
        goal=f"speed-up within {WITHIN:.0%} of what machine and breakdown allow: {timing.speedup.median / left:.3f}",
        holds=abs(timing.speedup.median / left - 1) <= WITHIN,
    )


if __name__ == "__main__":
    main()
