"""Who says "slower" of two sides: Lockstep's gate, and what pytest-benchmark and pyperf compare with, their own code.

Each judge has a score, too (higher: more sure of a slowdown), so that all can be held to one rate of false alarms.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gate_steps import Side

from harness.measure import gate

NEEDED = ("pytest_benchmark", "pyperf", "scipy")


@dataclass(frozen=True, kw_only=True, slots=True)
class Opinion:
    """Whether a judge says "slower", and how sure it is."""

    slower: bool
    score: float


Judge = Callable[[Side, Side], Opinion]


def require() -> None:
    """End with what to install where a rival is absent."""
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        raise SystemExit(f"needs {', '.join(absent)}: pip install -c constraints.txt pyperf pytest-benchmark scipy")


def judges(floor: float) -> dict[str, Judge]:
    """Return the judges by name: ours with this floor, the others as people use them."""
    return {
        "lockstep": lambda before, now: lockstep(before, now, floor),
        "pytest-benchmark mean:5%": lambda before, now: pytest_benchmark(before, now, "mean"),
        "pytest-benchmark min:5%": lambda before, now: pytest_benchmark(before, now, "min"),
        "pyperf compare_to": pyperf,
    }


def lockstep(before: Side, now: Side, floor: float) -> Opinion:
    """Our gate, on several starts with a yardstick beside each step."""
    sides = [
        [
            gate.Start(step_s=[step for step, _ in rounds], yardstick_s=[unit for _, unit in rounds])
            for rounds in side.rounds
        ]
        for side in (before, now)
    ]
    found = gate.judge(sides[0], sides[1], floor=floor)
    change, reach = math.log(found.ratio.median), math.log(found.ratio.high / found.ratio.median)
    return Opinion(slower=found.outcome == "slower", score=change / reach)


def pytest_benchmark(before: Side, now: Side, field: str) -> Opinion:
    """``--benchmark-compare-fail=FIELD:5%``, on the rounds of one process."""
    from pytest_benchmark.stats import Stats
    from pytest_benchmark.utils import parse_compare_fail

    sides: list[dict[str, Any]] = []
    for side in (before, now):
        stats = Stats()
        for step in side.single:
            stats.update(step)
        sides.append({field: getattr(stats, field)})
    check = parse_compare_fail(f"{field}:5%")
    return Opinion(slower=bool(check.fails(sides[1], sides[0])), score=check.compute(sides[1], sides[0]))


def pyperf(before: Side, now: Side) -> Opinion:
    """``pyperf compare_to``: a row is shown as slower where its t-test finds the means different at 95 %."""
    from pyperf import Benchmark, Run
    from pyperf._compare import CompareData, CompareResult

    sides = []
    for name, side in (("before", before), ("now", now)):
        runs = [
            Run(values, metadata={"name": "step", "loops": 1}, collect_metadata=False) for values in side.processes()
        ]
        sides.append(CompareData(name, Benchmark(runs)))
    found = CompareResult(*sides)
    # Its t is of before minus now.
    return Opinion(slower=bool(found.significant and found.norm_mean > 1), score=-(found.t_score or 0.0))
