"""The plugin's command line; every option starts with ``--ls-``, so that none collides with a project's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import store
from harness.cases import Selection
from harness.session import Options


def add(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("lockstep", "Lockstep: parallel training against serial training")
    group.addoption(
        "--ls-strategy", action="append", default=[], metavar="NAME", help="only this strategy (repeatable)"
    )
    group.addoption(
        "--ls-workload", action="append", default=[], metavar="NAME", help="only this workload (repeatable)"
    )
    group.addoption(
        "--ls-world-size", action="append", default=[], type=int, metavar="N", help="only N ranks (repeatable)"
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
        "--ls-require-gpus", type=int, default=0, metavar="N", help="fail at once unless N CUDA devices are visible"
    )
    group.addoption(
        "--ls-oversubscribe", action="store_true", help="let ranks share one GPU over gloo; for equality only"
    )
    group.addoption(
        "--ls-timeout", type=float, default=120.0, metavar="SECONDS", help="a rank silent for so long has hung"
    )


def read(config: pytest.Config) -> Options:
    """Return the options of a session; a worker of pytest-xdist shares its controller's run and scratch folder."""
    option = config.getoption
    shared = getattr(config, "workerinput", {}).get("lockstep", {})
    selection = Selection(
        strategies=tuple(option("--ls-strategy")),
        workloads=tuple(option("--ls-workload")),
        world_sizes=tuple(option("--ls-world-size")),
        devices=tuple(option("--ls-device")),
        scale=option("--ls-scale"),
        data_root=option("--ls-data-root"),
        oversubscribe=option("--ls-oversubscribe"),
    )
    return Options(
        run=shared.get("run") or store.new_run_id(),
        report_dir=Path(option("--ls-report-dir")),
        selection=selection,
        scratch=Path(shared["scratch"]) if shared else None,
        timeout_s=option("--ls-timeout"),
        num_gpus_required=option("--ls-require-gpus"),
    )
