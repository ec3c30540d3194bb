"""Whether a sound strategy's verdict survives schedules that are shaken at random, and what the shaking costs.

python suites/performance/bench_schedule_fuzz.py [--seeds 50] [--strategy torch-ddp ...]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

from benching import runner, spread, tell

from harness.runner import Runner
from harness.spec import Case
from harness.strategies import base as strategies

STRATEGIES = ("torch-ddp", "torch-fsdp", "torchgpipe", "horovod-torch", "deepspeed-zero3")
WORKLOAD = "digits-mlp"


def shake(own: Runner, name: str, num_seeds: int) -> Counter[str]:
    """Judge a strategy once as it is and once under each seed; print and return how often it came to which verdict."""
    case = Case(workload=WORKLOAD, strategy=name, world_size=2)
    own.verdict(case)
    found: Counter[str] = Counter()
    took_s = []
    for seed in range(num_seeds):
        began_s = time.monotonic()
        verdict = own.shaken(seed).verdict(case)
        took_s.append(time.monotonic() - began_s)
        found[verdict.conclusion] += 1
        if not verdict.equivalent:
            print(f"{name} with seed {seed}: {verdict}", flush=True)
    middle, low, high = spread(took_s)
    told = ", ".join(f"{count} {conclusion}" for conclusion, count in found.items())
    print(f"{name:16} {told}; a case took {middle:.2f} s ({low:.2f} to {high:.2f})", flush=True)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50, help="schedules of each strategy")
    parser.add_argument("--strategy", action="append", help="only this one (repeatable)")
    parsed = parser.parse_args()
    with runner() as own:
        asked = parsed.strategy or [name for name in STRATEGIES if strategies.get(name).missing() is None]
        found = [shake(own, name, parsed.seeds) for name in asked]
    changed = sum(count for counts in found for conclusion, count in counts.items() if conclusion != "equivalent")
    total = sum(map(Counter.total, found))
    print(f"{total} shaken cases of {len(asked)} strategies, {changed} verdicts changed")
    share = 100.0 * changed / total
    tell("schedule_fuzz_changed", share, "% of cases", low=share, high=share, goal="0", holds=not changed)


if __name__ == "__main__":
    main()
