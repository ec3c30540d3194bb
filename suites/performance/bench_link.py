"""The link between two ranks of this machine: gloo all-reduces from 1 KiB to 64 MiB, and the alpha-beta model of them.

Two processes, each on a core of its own where there are two, reduce every size in turn, round after round; a time is
that of the slower rank. The model is that of a ring: 2 alpha + bytes * beta for two ranks.

    python suites/performance/bench_link.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benching import tell

from harness.measure import lease
from harness.measure.network import bus_factor, fit_ring, ring_all_reduce, typical_error
from harness.report.console import table

SIZES = tuple(1 << power for power in range(10, 27, 2))
NUM_RANKS = 2
LIMIT_S = 300.0
GOAL = 0.25
# A round takes at least so long for each size: what is quick is repeated.
_BYTES_A_ROUND = 1 << 20
_MOST_REPEATS = 20


def as_rank(rank: int, store: str, rounds: int) -> list[list[float]]:
    """Reduce every size in every round; return a row of seconds for each size."""
    import torch
    import torch.distributed as dist

    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=NUM_RANKS)
    buffers = [torch.ones(size // 4) for size in SIZES]
    for buffer in buffers:  # connections and pages
        dist.all_reduce(buffer)
    taken: list[list[float]] = [[] for _ in SIZES]
    for _ in range(rounds):
        for row, buffer, size in zip(taken, buffers, SIZES, strict=True):
            repeats = max(1, min(_MOST_REPEATS, _BYTES_A_ROUND // size))
            buffer.fill_(1)
            dist.barrier()
            began_s = time.monotonic()
            for _ in range(repeats):
                dist.all_reduce(buffer)
            row.append((time.monotonic() - began_s) / repeats)
    dist.destroy_process_group()
    return taken


def measure(rounds: int) -> list[tuple[int, Sequence[float]]]:
    """Return the seconds of the slower rank, for each size and round."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        command = [sys.executable, __file__, "--rounds", str(rounds), "--store", str(store), "--rank"]
        ranks = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE) for rank in range(NUM_RANKS)]
        try:
            answers = [json.loads(rank.communicate(timeout=LIMIT_S)[0] or "null") for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
    if None in answers:
        raise SystemExit("a rank ended without an answer; its error stands above")
    return [
        (size, [max(both) for both in zip(*rows, strict=True)])
        for size, rows in zip(SIZES, zip(*answers, strict=True), strict=True)
    ]


def main() -> None:
    """Measure, fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="times that every size is measured")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--store", default="", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.rank is not None:
        print(json.dumps(as_rank(parsed.rank, parsed.store, parsed.rounds)))
        return
    with lease.exclusive(label="bench_link", on_wait=print):
        times = measure(parsed.rounds)
    fitted = fit_ring(times, NUM_RANKS)
    rows = [["bytes", "measured us", "spread", "model us", "error", "bus GB/s"]]
    for (size, taken), (_, error) in zip(times, fitted.errors, strict=True):
        ordered = sorted(taken)
        middle = ordered[len(ordered) // 2]
        spread = f"{1e6 * ordered[0]:.1f} to {1e6 * ordered[-1]:.1f}"
        model_s = ring_all_reduce(fitted.link, NUM_RANKS, size)
        bus = bus_factor("all-reduce", NUM_RANKS) * size / middle / 1e9
        rows.append([f"{size:,}", f"{1e6 * middle:.1f}", spread, f"{1e6 * model_s:.1f}", f"{error:+.0%}", f"{bus:.3f}"])
    print("\n".join(table(rows)))
    alpha, rate, off = fitted.alpha, fitted.bytes_per_s, typical_error(fitted)
    print(f"alpha {1e6 * alpha.median:.1f} us ({1e6 * alpha.low:.1f} to {1e6 * alpha.high:.1f})")
    print(f"1/beta {rate.median / 1e9:.3f} GB/s ({rate.low / 1e9:.3f} to {rate.high / 1e9:.3f})")
    print(f"for harness predict: --link {1e6 * alpha.median:.1f}us,{rate.median / 1e9:.3f}GB/s")
    tell(
        "link",
        off.median,
        f"relative error of alpha + beta * bytes, median of {len(SIZES)} sizes",
        low=off.low,
        high=off.high,
        goal=f"<= {GOAL:g}",
        holds=off.median <= GOAL,
    )


if __name__ == "__main__":
    main()
