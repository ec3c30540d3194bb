"""The plugin's command line; every option starts with ``--ls-``, so that none collides with a project's own."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import parametrisation, store, workloads
from harness.cases import Selection
from harness.errors import HarnessError
from harness.session import Options


def add(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("lockstep", "Lockstep: parallel training against serial training")
    group.addoption(
        "--ls-strategy", action="append", default=[], metavar="NAME", help="only this strategy (repeatable)"
    )
    group.addoption(
        "--ls-workload",
        action="append",
        default=[],
        metavar="NAME",
        help="only this workload, by name or as a JSON object (repeatable)",
    )
    group.addoption(
        "--ls-world-size", action="append", default=[], type=_at_least(1), metavar="N", help="only N ranks (repeatable)"
    )
    group.addoption(
        "--ls-device", action="append", default=[], choices=["cpu", "cuda"], help="only this device (repeatable)"
    )
    group.addoption(
        "--ls-scale",
        choices=["quick", "full"],
        default="quick",
        help="quick: two ranks, more for the smoke cases; full: every world size",
    )
    group.addoption("--ls-data-root", metavar="DIR", help="where data files (MNIST's IDX files, ...) lie")
    group.addoption("--ls-report-dir", default=store.REPORT_DIR, metavar="DIR", help="where runs go (default: reports)")
    group.addoption(
        "--ls-require-gpus",
        type=_at_least(0),
        default=0,
        metavar="N",
        help="fail at once unless N CUDA devices are visible",
    )
    group.addoption(
        "--ls-oversubscribe", action="store_true", help="let ranks share one GPU over gloo; for equality only"
    )
    group.addoption(
        "--ls-fuzz-schedule",
        type=_at_least(0),
        metavar="SEED",
        help="delay ranks at random before what they do, so that races may show; for equality only",
    )
    group.addoption(
        "--ls-power",
        choices=["on", "off"],
        default="on",
        help="on: run small bugs on every case, too; where its check cannot tell them, the verdict is inconclusive",
    )
    group.addoption(
        "--ls-timeout", type=_seconds, default=120.0, metavar="SECONDS", help="a rank silent for so long has hung"
    )


def read(config: pytest.Config) -> Options:
    """Return the options of a session; a worker of pytest-xdist shares its controller's run and scratch folder."""
    option = config.getoption
    shared = getattr(config, "workerinput", {}).get("lockstep", {})
    selection = Selection(
        strategies=tuple(dict.fromkeys(option("--ls-strategy"))),
        workloads=tuple(dict.fromkeys(_workload(name) for name in option("--ls-workload"))),
        world_sizes=tuple(dict.fromkeys(option("--ls-world-size"))),
        devices=tuple(dict.fromkeys(option("--ls-device"))),
        scale=option("--ls-scale"),
        data_root=str(Path(option("--ls-data-root")).expanduser()) if option("--ls-data-root") else None,
        oversubscribe=option("--ls-oversubscribe"),
    )
    return Options(
        run=shared.get("run") or store.new_run_id(),
        # A test may change the current directory.
        report_dir=config.invocation_params.dir / option("--ls-report-dir"),
        selection=selection,
        scratch=Path(shared["scratch"]) if shared.get("scratch") else None,
        timeout_s=option("--ls-timeout"),
        num_gpus_required=option("--ls-require-gpus"),
        fuzz=option("--ls-fuzz-schedule"),
        power=option("--ls-power") == "on",
    )


def _workload(text: str) -> str:
    """Return a workload's name; one that is described rather than named is registered."""
    if not text.startswith("{"):
        return text
    try:
        return workloads.described(text).name
    except HarnessError as error:
        raise pytest.UsageError(f"--ls-workload: {error}") from error


def asked(config: pytest.Config) -> str:
    """Return what the user asked for in particular, in the words of the command line; empty when nothing."""
    expression = str(config.getoption("markexpr", "") or "")
    # "not slow" leaves out; it asks for nothing.
    positive = re.sub(r"\bnot\s+(\([^()]*\)|[^\s()]+)", "", expression)
    names = set(re.findall(r"[^\s()]+", positive))
    marked = names & parametrisation.derived() or {name for name in names if re.fullmatch(r"gpu\d+", name)}
    words = [f"-m {shlex.quote(expression)}"] if marked else []
    for name in ("strategy", "workload", "world-size", "device"):
        words += [f"--ls-{name} {value}" for value in config.getoption(f"--ls-{name}")]
    return " ".join(words)


def _at_least(minimum: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        number = int(text)
        if number < minimum:
            raise argparse.ArgumentTypeError(f"expected a number >= {minimum} but got {text}")
        return number

    return whole_number


def _seconds(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"expected a number of seconds > 0 but got {text}")
    return number
