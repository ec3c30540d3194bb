"""The whole CPU matrix: how many cases, how long together, how long the median case of the PyTorch family.

Runs the conformance suite at full scale in a process of its own, as a user would, and reads its records. Which cases
are not equivalent is told, too: a matrix that is fast and wrong is worth nothing.

    python suites/performance/bench_matrix.py [--keep DIR]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from benching import spread, tell

from harness import store
from harness.record import Record

LIMIT_MINUTES = 15
LIMIT_CASE_S = 0.5
SUITE = Path(__file__).parents[1] / "conformance" / "test_parity.py"


def run(folder: Path) -> tuple[float, list[Record]]:
    """Return the seconds that the matrix took, and its records."""
    command = [sys.executable, "-m", "pytest", "-q", str(SUITE), "--ls-scale=full", "--ls-device=cpu"]
    started = time.monotonic()
    subprocess.run([*command, f"--ls-report-dir={folder}"], check=False)
    took_s = time.monotonic() - started
    return took_s, list(store.read("latest", folder).records)


def main() -> None:
    """Run the matrix and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the run and its report there")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        took_s, records = run(parsed.keep or Path(passing))
    ran = [record for record in records if record.evidence is not None or record.failed]
    outcomes = Counter("failed" if record.failed else record.verdict for record in ran)
    print(f"{len(ran)} cases ran: " + ", ".join(f"{number} {name}" for name, number in outcomes.most_common()))
    for family in sorted({record.framework for record in ran}):
        seconds = [record.duration_s for record in ran if record.framework == family]
        middle, low, high = spread(seconds)
        print(f"{family}: {len(seconds)} cases, median {middle:.2f} s [{low:.2f}, {high:.2f}], {sum(seconds):.0f} s")
    torch = [record.duration_s for record in ran if record.framework == "torch"]
    middle, low, high = spread(torch)
    tell("matrix_case", middle, "s", low=low, high=high, goal="<= 0.5", holds=middle <= LIMIT_CASE_S)
    minutes = took_s / 60
    holds = minutes <= LIMIT_MINUTES and not np.isnan(middle)
    tell("matrix", minutes, "min", low=minutes, high=minutes, goal=f"<= {LIMIT_MINUTES}", holds=holds)


if __name__ == "__main__":
    main()
