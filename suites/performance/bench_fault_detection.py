"""How many injected bugs are caught, where they are seen first, and how often the cause that is named is the right one.

Every control of ``harness.controls``; with ``--held-out`` on another model, data order, optimizer setting and number of
ranks than those on which the rules of ``harness.oracles.diagnosis`` were written. Then bugs that no rule knows, of
which no cause may be told for certain. ``--out`` takes what was found as JSON.

    python suites/performance/bench_fault_detection.py [--scale full] [--held-out] [--only PATTERN] [--out FILE]
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
from benching import HERE, runner, tell

from harness import controls, jobs
from harness.controls import ADAMW, BASE, Control
from harness.errors import RankError, SpecError, TraceError
from harness.faults import base as faults
from harness.faults.base import Site
from harness.record import Verdict
from harness.runner import Runner
from harness.spec import Case, Workload
from harness.strategies import base as strategies

sys.path.append(str(HERE.parent / "faults"))

# These strike a layer of the model by its name, as it lies on so many ranks.
OF_A_LAYER = ("input-not-awaited", "clip-skips-replicated", "collective-scales-gradient")
PATIENCE_S = 20.0
GOALS = {"detected": 1.0, "rung": 1.0, "step": 1.0, "tensor": 0.98, "rank": 0.98, "cause": 0.9}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one control; what was not to be seen, like the rung of a rank that died, is None."""

    control: str
    fault: str
    strategy: str
    detected: bool
    rung: bool | None = None
    step: bool | None = None
    tensor: bool | None = None
    rank: bool | None = None
    cause: bool | None = None
    named: str = ""
    confidence: str = ""
    told: str = ""

    @property
    def misled(self) -> bool:
        """Whether a wrong cause was told for certain."""
        return self.cause is False and self.confidence == "certain"


def outcome(own: Runner, control: Control) -> Outcome:
    """Run one control and hold what is seen against what is expected."""
    nothing = Outcome(control=control.id, fault=control.fault.name, strategy=control.case.strategy, detected=False)
    wanted = control.expected
    try:
        verdict = own.verdict(control.case, control.workload, control.fault)
    except (RankError, TraceError) as error:
        told = str(error).splitlines()[0][:200]
        return replace(nothing, detected=bool(wanted.failure) and wanted.failure in str(error), told=told)
    seen, found = verdict.divergence, verdict.diagnosis
    if verdict.conclusion != "different" or seen is None:
        return replace(nothing, told=str(verdict))
    return replace(
        nothing,
        detected=not wanted.failure,
        rung=not wanted.rungs or seen.rung in wanted.rungs,
        step=wanted.step <= seen.step <= wanted.step + 1,
        tensor=not wanted.tensors or seen.tensor.rpartition(":")[2] in wanted.tensors,
        rank=not wanted.ranks or seen.rank in wanted.ranks,
        cause=found is not None and found.cause in faults.get(control.fault.name).causes,
        named=found.cause if found else "",
        confidence=found.confidence if found else "",
        told=found.words if found else str(verdict),
    )


def another(old: Workload, *, model: str = "simple-cnn") -> Workload:
    """Return a training that the rules were not written on: other samples, batches, rates and, if it may, model."""
    optimizer = msgspec.structs.replace(
        old.optimizer,
        learning_rate=0.5 * old.optimizer.learning_rate,
        momentum=0.85 if old.optimizer.momentum else 0.0,
        betas=(0.8, 0.98),
    )
    whole = old.check.num_samples == BASE.check.num_samples and old.check.global_batch == BASE.check.global_batch
    check = msgspec.structs.replace(old.check, num_samples=97, global_batch=36) if whole else old.check
    own = model if old.model == BASE.model and not old.frozen else old.model
    workload = msgspec.structs.replace(old, model=own, optimizer=optimizer, seed=old.seed + 29, check=check)
    return msgspec.structs.replace(workload, name=f"held-out-{workload.digest}")


def held_out(control: Control) -> Control | None:
    """Return the control on another training; None where that cannot be trained, or hides the bug."""
    of_a_layer = control.fault.name in OF_A_LAYER
    workload = another(control.workload, model=BASE.model if of_a_layer else "simple-cnn")
    strategy, size = control.case.strategy, control.case.world_size
    # Where there are as many ranks as micro-batches, a factor may mean either.
    others = (3, size) if size == 2 and workload.accumulation != 3 and not of_a_layer else (size,)
    for world_size in others:
        case = Case(workload=workload.name, strategy=strategy, world_size=world_size)
        site = Site(workload=workload, strategy=strategy, world_size=world_size, settings=control.fault.settings)
        try:
            jobs.validate(case, workload, strategies.get(strategy))
            if faults.refusal(control.fault, site) is None:
                expected = faults.expected(control.fault, site)
                return replace(control, case=case, workload=workload, expected=expected)
        except SpecError:
            continue
    return None


def of_unknown(own: Runner, change: Callable[[Workload], Workload]) -> Iterator[tuple[str, Verdict]]:
    """Yield the verdicts on bugs that no rule knows."""
    from unknown_bugs import UNKNOWN, wrong_epsilon
    from wrong_strategies import declared

    with declared(*UNKNOWN):
        for optimizer in (BASE.optimizer, ADAMW):
            workload = msgspec.structs.replace(BASE, name=f"unknown-{optimizer.name}", optimizer=optimizer)
            workload = change(workload)
            for bug in UNKNOWN:
                if bug is wrong_epsilon and optimizer.name == "sgd":
                    continue
                case = Case(workload=workload.name, strategy=bug.__name__, world_size=2)
                yield f"{bug.__name__}/{optimizer.name}", own.verdict(case, workload)


def show(outcomes: Sequence[Outcome]) -> None:
    """Print a line a fault."""
    names = sorted({one.fault for one in outcomes})
    print(f"{'fault':28} {'runs':>5} " + " ".join(f"{what:>9}" for what in GOALS) + "  misled")
    for name in names:
        own = [one for one in outcomes if one.fault == name]
        cells = " ".join(f"{_share(own, what):>9}" for what in GOALS)
        print(f"{name:28} {len(own):5} {cells}  {sum(one.misled for one in own)}", flush=True)


def _share(outcomes: Iterable[Outcome], what: str) -> str:
    seen = [value for one in outcomes if (value := getattr(one, what)) is not None]
    return f"{sum(seen)}/{len(seen)}" if seen else "-"


def rates(outcomes: Sequence[Outcome], name: str) -> None:
    """Print the closing lines: a rate and its 95 % interval each."""
    for what, goal in GOALS.items():
        seen = [value for one in outcomes if (value := getattr(one, what)) is not None]
        low, high = wilson(sum(seen), len(seen))
        rate = sum(seen) / len(seen)
        tell(f"{name}_{what}", rate, "of runs", low=low, high=high, goal=f">= {goal:g}", holds=rate >= goal)
    judged = [one for one in outcomes if one.cause is not None]
    misled = sum(one.misled for one in judged)
    low, high = wilson(misled, len(judged))
    rate = misled / len(judged)
    tell(f"{name}_misled", rate, "of runs", low=low, high=high, goal="<= 0.02", holds=rate <= 0.02)


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate (Wilson 1927)."""
    z = 1.959964
    rate, scale = hits / total, 1 + z**2 / total
    middle = (rate + z**2 / (2 * total)) / scale
    half = z * math.sqrt(rate * (1 - rate) / total + z**2 / (4 * total**2)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=("quick", "full"), default="full", help="which controls")
    parser.add_argument("--held-out", action="store_true", help="on other trainings than the rules were written on")
    parser.add_argument("--only", default="", help="controls whose id matches this regular expression")
    parser.add_argument("--out", type=Path, help="write what was found here, as gzipped JSON")
    parsed = parser.parse_args()
    name = "held_out_fault" if parsed.held_out else "fault"
    began = time.monotonic()
    with runner() as own:
        chosen: list[Control] = [
            control for control in controls.controls(parsed.scale) if re.search(parsed.only, control.id)
        ]
        if parsed.held_out:
            chosen = [other for control in chosen if (other := held_out(control)) is not None]
        outcomes = []
        # Ranks that hang are waited for.
        impatient = Runner(replace(own.settings, timeout_s=PATIENCE_S), own.pool, own.trainings.kept)
        for control in chosen:
            outcomes.append(outcome(impatient if control.expected.failure else own, control))
            last = outcomes[-1]
            if not last.detected or False in (last.rung, last.step, last.tensor, last.rank, last.cause):
                print(f"{control.id}: {asdict(last)}", flush=True)
        unknown = (
            {} if parsed.only else dict(of_unknown(own, another if parsed.held_out else lambda workload: workload))
        )
    show(outcomes)
    told = {bug: verdict.diagnosis for bug, verdict in unknown.items()}
    for bug, found in told.items():
        print(f"unknown {bug}: {f'{found.confidence}: {found.cause}: {found.words}' if found else 'no cause told'}")
    missed = [bug for bug, verdict in unknown.items() if verdict.conclusion != "different"]
    took_s = time.monotonic() - began
    print(f"{len(outcomes)} controls in {took_s:.0f} s; unknown bugs that are not caught: {missed or 'none'}")
    if parsed.out:
        result = {
            "held_out": parsed.held_out,
            "outcomes": [asdict(one) for one in outcomes],
            "unknown": {bug: {"cause": f.cause, "confidence": f.confidence} if f else None for bug, f in told.items()},
        }
        parsed.out.parent.mkdir(parents=True, exist_ok=True)
        parsed.out.write_bytes(gzip.compress(json.dumps(result).encode()))
    rates(outcomes, name)
    if told:
        sure = sum(found is not None and found.confidence == "certain" for found in told.values())
        low, high = wilson(sure, len(told))
        rate = sure / len(told)
        tell(f"{name}_unknown_misled", rate, "of runs", low=low, high=high, goal="<= 0.02", holds=rate <= 0.02)


if __name__ == "__main__":
    main()
