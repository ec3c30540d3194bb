"""How often the oracle calls a sound training different: thousands of random clean cases under every exact strategy.

Every line of the file is a judged case with its closest calls, so that a run can be interrupted, gone on with and read
later. Cases that a library cannot run are not drawn; those that fail are told and not counted.

    python suites/performance/bench_false_alarms.py [--cases 300] [--seed 1] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benching import HERE, runner, tell, upper_share

sys.path.insert(0, str(HERE.parent / "conformance"))

import clean_drawing
import drawing

from harness import jobs
from harness.errors import HarnessError
from harness.runner import Runner
from harness.spec import Case, Workload
from harness.strategies import base as strategies

Line = dict[str, Any]
FAILED = "failed"


def judged(own: Runner, case: Case, workload: Workload) -> Line:
    """Judge one case and return what is kept of it: the closest calls are those before an alarm is asked again."""
    began_s = time.monotonic()
    kept: Line = {"strategy": case.strategy, "world_size": case.world_size}
    kept |= {"model": workload.model.rpartition(":")[2], "optimizer": workload.optimizer.name}
    checked = jobs.in_dtype_of(strategies.get(case.strategy), workload)
    kept["precision"] = jobs.precision(checked)
    try:
        first = own.judge_once(case, checked)
        again = first.conclusion == "different" and not jobs.exact(checked)
        verdict = own.verdict(case, workload) if again else first
    except HarnessError as error:
        reason = str(error).partition("\n")[0]
        print(f"FAILED {case.id}: {reason}\nrepeat: {drawing.command(case, workload)}", flush=True)
        return kept | {"conclusion": FAILED, "reason": reason}
    kept |= {"conclusion": verdict.conclusion, "first": first.conclusion, "margin": _short(first.margin)}
    kept |= {"rungs": {found.rung: _short(found.ratio) for found in first.rungs}, "reference": first.reference}
    if not verdict.equivalent:
        kept["reason"] = verdict.reason
    if verdict.conclusion == "different":
        print(f"ALARM {case.id}: {verdict}\nrepeat: {drawing.command(case, workload)}", flush=True)
    return kept | {"duration_s": round(time.monotonic() - began_s, 3)}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def cases(seed: int, known: set[tuple[int, str]]) -> Iterator[tuple[int, Case, Workload]]:
    """Yield clean cases without end, but for those that are known by (number, strategy)."""
    number = 0
    while True:
        found = clean_drawing.drawn(seed, number)
        for case in found.cases():
            if (number, case.strategy) not in known:
                yield number, case, found.workload
        number += 1


def gather(own: Runner, file: Path, num_cases: int, seed: int) -> list[Line]:
    """Judge clean cases until ``file`` holds ``num_cases`` that could be; return all of them."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    num_judged = sum(line["conclusion"] != FAILED for line in lines)
    drawn = cases(seed, {(line["number"], line["strategy"]) for line in lines if line["seed"] == seed})
    with file.open("a") as out:
        while num_judged < num_cases:
            number, case, workload = next(drawn)
            line: Line = {"seed": seed, "number": number} | judged(own, case, workload)
            lines.append(line)
            num_judged += line["conclusion"] != FAILED
            print(json.dumps(line), file=out, flush=True)
            if len(lines) % 100 == 0:
                print(summary(lines), flush=True)
    return lines


def summary(lines: list[Line]) -> str:
    """Say how many cases there are, how they ended, and how close the closest call was in each precision."""
    ended = Counter(line["conclusion"] for line in lines)
    largest: dict[str, float] = {}
    for line in lines:
        if line["conclusion"] == "equivalent":
            largest[line["precision"]] = max(largest.get(line["precision"], 0.0), line["margin"])
    told = ", ".join(f"{precision} {margin:.2f}" for precision, margin in sorted(largest.items()))
    return f"{len(lines)} cases: {dict(ended)}; largest margin of equivalent ones: {told}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=300, help="clean cases that the file is to hold")
    parser.add_argument("--seed", type=int, default=1, help="of the drawing")
    parser.add_argument("--out", type=Path, help="a line of JSON per case; one that exists is gone on with")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, runner(power=False) as own:
        lines = gather(own, parsed.out or Path(folder) / "cases.jsonl", parsed.cases, parsed.seed)
    print(summary(lines))
    counted = [line for line in lines if line["conclusion"] != FAILED]
    alarms = sum(line["conclusion"] == "different" for line in counted)
    # The rule of three and its like: none among n leaves up to 3 / n, at 95 %.
    bound = 100 * upper_share(alarms, len(counted))
    share = 100 * alarms / len(counted)
    tell("false_alarms", share, "% of clean cases", low=0.0, high=bound, goal="0", holds=not alarms)


if __name__ == "__main__":
    main()
