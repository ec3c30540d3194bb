"""What collecting 2,000 cases costs over bare pytest collecting as many plain parametrised tests.

Both in processes of their own, taking turns, with only the plugins they need: a suite whose conftest declares enough
workloads for 2,000 cases at full scale, and a file with one parametrised test. The suite's conftest also tells which
frameworks have been imported when the session ends: none may have been, as each would take seconds.

    python suites/performance/bench_collection.py [--runs 12] [--cases 2000]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benching import spread, tell

from harness import cases
from harness.measure import lease
from harness.measure.statistics import interval
from harness.strategies import base as strategies

LIMIT_S = 1.0
FRAMEWORKS = "torch torchvision tensorflow keras horovod torchgpipe deepspeed pyvelox pandas scipy sklearn jinja2"
CONFTEST = """
import sys
from harness.spec import Workload
from harness.workloads import workload

def declare(number):
    @workload("conformance")
    def described():
        return Workload(name=f"many-{{number}}", model="mlp", dataset="digits", seed=number)

for number in range({num_workloads}):
    declare(number)

def pytest_sessionfinish():
    print("frameworks:", *[name for name in {frameworks!r}.split() if name in sys.modules])
"""
CASES = """
def test_case(verdict):
    assert verdict.equivalent
"""
PLAIN = """
import pytest

@pytest.mark.parametrize("number", range({num_tests}))
def test_plain(number):
    assert number >= 0
"""
COLLECT = (sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider")
OURS = (*COLLECT, "-p", "harness.plugin", "--ls-scale", "full", "--ls-report-dir", "reports")


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """One collection: its wall and processor seconds, the number of tests, and what its session printed."""

    wall_s: float
    processor_s: float
    num_tests: int
    output: str


def collect(command: tuple[str, ...], suite: Path) -> Collected:
    """Collect a suite in a process of its own."""
    # Plugins that happen to be installed would burden both sides.
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    before, began_s = os.times(), time.monotonic()
    done = subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True, check=False)
    wall_s, after = time.monotonic() - began_s, os.times()
    counted = re.search(r"^(\d+) tests collected", done.stdout, re.MULTILINE)
    if done.returncode or not counted:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2_000:]}\n{done.stderr[-2_000:]}")
    processor_s = sum(after[2:4]) - sum(before[2:4])
    return Collected(wall_s=wall_s, processor_s=processor_s, num_tests=int(counted[1]), output=done.stdout)


def write_suites(folder: Path, num_cases: int) -> tuple[Path, Path]:
    """Write a suite of at least so many cases, and one of exactly as many plain tests; return their folders."""
    strategies.discover()
    full = cases.offers(cases.Selection(scale="full"), "conformance")
    # What any workload brings that is not one of the few smoke cases.
    each = sum(offer.case.workload == "digits-cnn" for offer in full)
    ours, bare = folder / "cases", folder / "plain"
    for suite in (ours, bare):
        suite.mkdir()
        (suite / "pytest.ini").write_text("[pytest]\n")
    conftest = CONFTEST.format(num_workloads=-(-num_cases // each), frameworks=FRAMEWORKS)
    (ours / "conftest.py").write_text(conftest)
    (ours / "test_cases.py").write_text(CASES)
    (bare / "test_plain.py").write_text(PLAIN.format(num_tests=collect(OURS, ours).num_tests))
    return ours, bare


def imported(collection: Collected) -> str:
    """Return the frameworks that a collection has imported."""
    told = re.search(r"^frameworks:(.*)$", collection.output, re.MULTILINE)
    assert told is not None, "the suite's conftest tells at the end of the session"
    return told[1].strip()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=12, help="collections of each side (at least 6 for an interval)")
    parser.add_argument("--cases", type=int, default=2_000, help="cases to collect")
    parsed = parser.parse_args()
    ours: list[Collected] = []
    bare: list[Collected] = []
    with tempfile.TemporaryDirectory() as folder, lease.exclusive(label="bench_collection", on_wait=print):
        suite, plain = write_suites(Path(folder), parsed.cases)
        for number in range(parsed.runs):
            turns = [(ours, OURS, suite), (bare, COLLECT, plain)]
            for taken, command, where in turns[:: 1 if number % 2 else -1]:
                taken.append(collect(command, where))
    for name, taken in (("with Lockstep", ours), ("bare pytest", bare)):
        middle, low, high = spread([one.wall_s for one in taken])
        processor_s = np.median([one.processor_s for one in taken])
        print(
            f"{name:14} {taken[0].num_tests} tests: median {middle:.2f} s, 5 to 95 %: {low:.2f} to {high:.2f}; "
            f"{processor_s:.2f} s of a processor"
        )
    frameworks = imported(ours[-1])
    print(f"frameworks imported while collecting: {frameworks or 'none'}")
    more = interval([own.wall_s - other.wall_s for own, other in zip(ours, bare, strict=True)])
    tell(
        "collection",
        more.median,
        f"s over bare pytest for {ours[0].num_tests} cases",
        low=more.low,
        high=more.high,
        goal=f"<= {LIMIT_S:g}, no framework imported",
        holds=more.median <= LIMIT_S and not frameworks and ours[0].num_tests == bare[0].num_tests,
    )


if __name__ == "__main__":
    main()
