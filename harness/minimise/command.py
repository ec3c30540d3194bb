"""``harness minimise``: the smallest case that still differs, and a script that shows it."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from harness import scratch, workloads
from harness.errors import SpecError, UsageError
from harness.faults import base as faults
from harness.launchers.local import Pool
from harness.minimise.script import place, standalone
from harness.minimise.shrink import LIMIT_S, Minimised, Tell, difference, divergence, shrink
from harness.runner import Runner
from harness.spec import Case, Fault, Workload
from harness.strategies import base as strategies
from harness.training import Settings, preload

# What a script may take: it imports a framework and trains a few steps.
_SCRIPT_TIMEOUT_S = 300.0
_SAID = {0: "it shows no difference with weights and images of its own", 1: "run, it shows the difference"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Exit status: 0 told, 2 bad input, or nothing differs."
    parser.add_argument("case", nargs="?", metavar="CASE", help="as reports name it: digits-mlp/torch-ddp/2/cpu")
    parser.add_argument("--strategy", metavar="NAME", help="with its options, instead of a CASE")
    parser.add_argument("--workload", metavar="NAME", help="a workload's name, or a JSON object that describes one")
    parser.add_argument("--world-size", type=int, default=2, metavar="N", help="how many ranks (2)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--fault", metavar="NAME", help="a bug to inject")
    parser.add_argument("--data-root", metavar="DIR", help="where data files lie")
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, metavar="S", help=f"search no longer ({LIMIT_S:g})")
    parser.add_argument("--out", metavar="FILE", help="where the script goes (minimised-STRATEGY.py)")


def run(parsed: argparse.Namespace, tell: Tell) -> int:
    """Search, tell what is left, and write the script.

    Raises:
        HarnessError: the case cannot run, or does not differ.
    """
    strategies.discover()
    case, workload = _asked(parsed)
    fault = Fault(name=faults.get(parsed.fault).name) if parsed.fault else None
    file = Path(parsed.out or f"minimised-{case.strategy}.py")
    if not file.parent.is_dir():
        raise UsageError(f"expected a folder that exists for --out but got {file}; make {file.parent} first")
    with _runner(parsed.data_root) as own:
        found = shrink(
            case, workload, fault, own.verdict, limit_s=parsed.limit_s, tell=lambda gone: tell(f"taken out: {gone}")
        )
    for line in lines(found, fault):
        tell(line)
    if fault is not None:
        tell("no script: an injected bug is Lockstep's own")
        return 0
    try:
        script = standalone(found.case, found.workload, found.verdict)
    except SpecError as error:
        tell(str(error))
        return 0
    file.write_text(script)
    tell(f"script: {file} ({len(script.splitlines())} lines); {_shown(file)}")
    return 0


def lines(found: Minimised, fault: Fault | None = None) -> list[str]:
    """Return in words what is left of a case, and what repeats it."""
    wanted, first = difference(found.verdict), divergence(found.verdict)
    assert wanted is not None, "a minimised case differs"
    case, check = found.case, found.workload.check
    unfinished = "" if found.finished else "; the time was up, so it may not be the smallest"
    where = found.verdict.reason
    if found.verdict.conclusion != "different" and first is not None:
        where = f"differs from plain serial training first in {place(first)}: |difference| {first.observed:.2g}"
    size = f"{case.world_size} ranks, {check.num_steps} step(s), {check.num_samples} sample(s)"
    return [
        f"{case.strategy}: {size}, after {found.num_tried} cases{unfinished}",
        where,
        f"again: {asked(case, found.workload, fault)}" if fault else f"repeat: {repeat(case, found.workload)}",
    ]


def asked(case: Case, workload: Workload, fault: Fault | None = None) -> str:
    """Return the command that minimises a case."""
    known = workloads.written(workload)
    words = ["harness", "minimise"]
    if known == workload.name:
        words.append(case.id)
    else:
        words += [f"--strategy={case.strategy}", f"--workload={known}", f"--world-size={case.world_size}"]
        words += [f"--device={case.device}"] if case.device != "cpu" else []
    return shlex.join([*words, *([f"--fault={fault.name}"] if fault else [])])


def repeat(case: Case, workload: Workload) -> str:
    """Return the command that judges a case that no registered workload describes."""
    words = ["pytest", "suites/conformance/test_parity.py", f"--ls-strategy={case.strategy}"]
    words += [f"--ls-workload={workloads.as_json(workload)}", f"--ls-world-size={case.world_size}"]
    return shlex.join([*words, f"--ls-device={case.device}"])


def _asked(parsed: argparse.Namespace) -> tuple[Case, Workload]:
    """Return the case that the command line names."""
    if parsed.case is not None:
        parts = parsed.case.split("/")
        if len(parts) != 4 or parsed.strategy or parsed.workload:
            raise SpecError(
                f"expected a case WORKLOAD/STRATEGY/WORLD_SIZE/DEVICE, and no --strategy and --workload beside it, but "
                f"got {parsed.case!r}; `harness list` shows all"
            )
        named = dict(zip(("workload", "strategy", "world_size", "device"), parts, strict=True))
    elif parsed.strategy and parsed.workload:
        named = {"workload": parsed.workload, "strategy": parsed.strategy, "device": parsed.device}
        named["world_size"] = str(parsed.world_size)
    else:
        raise SpecError(
            "expected a CASE, or --strategy and --workload, but got neither; `harness list` shows all cases"
        )
    text = named["workload"]
    workload = workloads.described(text) if text.lstrip().startswith("{") else workloads.get(text)
    named |= {"workload": workload.name, "strategy": strategies.get(named["strategy"]).name}
    try:
        return msgspec.convert(named, Case, strict=False), workload
    except msgspec.ValidationError as error:
        raise SpecError(f"expected a case WORKLOAD/STRATEGY/WORLD_SIZE/DEVICE but {error}") from error


@contextmanager
def _runner(data_root: str | None) -> Iterator[Runner]:
    """A runner of its own, whose processes and files are gone afterwards."""
    folder = scratch.create()
    pool = Pool(preload)
    try:
        yield Runner(Settings(scratch=folder, data_root=data_root), pool)
    finally:
        pool.close()
        scratch.remove(folder)


def _shown(file: Path) -> str:
    """Run the script; return in words whether it shows the difference by itself."""
    try:
        ended = subprocess.run(
            [sys.executable, str(file)], capture_output=True, text=True, timeout=_SCRIPT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"run, it did not end in {_SCRIPT_TIMEOUT_S:g} s"
    said = (ended.stdout + ended.stderr).strip().splitlines()
    last = said[-1] if said else ""
    # Python itself ends with 1 where a script raises.
    raised = ended.returncode == 1 and not last.startswith("DIFFERENT")
    words = _SAID.get(ended.returncode)
    return f"{words}: {last}" if words and not raised else f"run, it failed: {last}"
