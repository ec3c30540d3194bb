"""The plugin's command line; every option starts with ``--ls-``, so that none collides with a project's own."""

from __future__ import annotations

import argparse
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import history, parametrisation, store, workloads
from harness.cases import Selection
from harness.errors import HarnessError
from harness.measure import sampling
from harness.session import Options

# What a case is judged and timed by, where nothing is said.
_DEFAULT: dict[str, Any] = {
    "--ls-scaling": "strong",
    "--ls-power": "on",
    "--ls-fuzz-schedule": None,
    "--ls-precision": sampling.Plan().precision,
    "--ls-budget": sampling.Plan().budget_s,
    "--ls-timeout": 120.0,
}


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
        default=_DEFAULT["--ls-power"],
        help="on: run small bugs on every case, too; where its check cannot tell them, the verdict is inconclusive",
    )
    group.addoption(
        "--ls-keep-traces",
        action="store_true",
        help="keep what every case is judged by, for `harness bundle` and a verdict of `harness judge` elsewhere",
    )
    _add_timing(group)
    _add_comparison(group)
    group.addoption(
        "--ls-timeout",
        type=_seconds,
        default=_DEFAULT["--ls-timeout"],
        metavar="SECONDS",
        help="a rank silent for so long has hung",
    )


def _add_timing(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--ls-precision",
        type=share,
        default=_DEFAULT["--ls-precision"],
        metavar="PERCENT",
        help="time until the speed-up's 95 %% interval is no wider than this to either side (2%%)",
    )
    group.addoption(
        "--ls-budget",
        type=_budget,
        default=_DEFAULT["--ls-budget"],
        metavar="SECONDS",
        help="stop timing a case after so long, precise or not; at least its epochs are timed (20)",
    )
    group.addoption(
        "--ls-scaling",
        choices=["strong", "weak"],
        default=_DEFAULT["--ls-scaling"],
        help="strong: the workload's batch is shared out over the ranks; weak: each rank has it",
    )


def _add_comparison(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--ls-compare-to",
        metavar="RUN",
        help="compare each time with an earlier run's: its folder, its id, 'latest', or 'auto' (all that are alike)",
    )
    group.addoption(
        "--ls-fail-slower",
        type=share,
        metavar="PERCENT",
        help="fail a timed test whose case got slower by more than this, beyond doubt; alone it compares to 'auto'",
    )
    group.addoption(
        "--ls-allow-difference",
        action="append",
        default=[],
        choices=history.KINDS,
        help="compare with runs that are unlike in this, too (repeatable)",
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
        keep_traces=option("--ls-keep-traces"),
        sampling=sampling.Plan(precision=option("--ls-precision"), budget_s=option("--ls-budget")),
        scaling=option("--ls-scaling"),
        compare_to=option("--ls-compare-to") or (history.AUTO if option("--ls-fail-slower") else None),
        fail_slower=option("--ls-fail-slower"),
        allow=tuple(option("--ls-allow-difference")),
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


def unusual(config: pytest.Config) -> list[str]:
    """Return the options that change how a case is judged or timed and are not as they are by default."""
    option = config.getoption
    words = [
        f"{name}={str(value).removesuffix('.0')}"
        for name, default in _DEFAULT.items()
        if (value := option(name)) != default
    ]
    return words + (["--ls-oversubscribe"] if option("--ls-oversubscribe") else [])


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


def share(text: str) -> float:
    """Return 0.02 for ``2%`` as for ``0.02``."""
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = math.nan
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"expected a percentage between 0 and 100 %, like 2% or 0.02, but got {text}")
    return number


def _budget(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds >= 0 but got {text}")
    return number
