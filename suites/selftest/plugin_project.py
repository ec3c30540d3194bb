"""A user's project in a folder of its own, and pytest run in it as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.record import Record

ROOT = Path(__file__).parents[2]
CONFTEST = 'pytest_plugins = ["harness.plugin"]\nimport numpy_strategies\n'
PARITY = "def test_parity(verdict):\n    assert verdict.equivalent, verdict\n"
TIMING = "def test_timing(timing):\n    assert timing.epoch_s\n"
# One case that takes milliseconds.
ONE = ("--ls-workload=tiny", "--ls-strategy=numpy-mean", "--ls-world-size=2", "--ls-device=cpu")
# Hypothesis's plugin takes half a second to say nothing at the end of a run; times need not be precise here.
INI = """
[pytest]
addopts = --strict-markers -p no:cacheprovider -p no:hypothesispytest -p no:benchmark --ls-budget=0
filterwarnings = error
"""
PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """How a pytest run ended, what it printed, and where it left its records."""

    code: int
    text: str
    reports: Path

    @property
    def run(self) -> Path:
        """The folder of the one run."""
        (folder,) = self.reports.iterdir()
        return folder

    @property
    def records(self) -> list[Record]:
        """The records of the run, in the order in which they were written."""
        lines = (self.run / "records.jsonl").read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Record, strict=False) for line in lines]

    @property
    def info(self) -> dict[str, object]:
        """What ``run.json`` says."""
        found: dict[str, object] = json.loads((self.run / "run.json").read_bytes())
        return found

    def verdicts(self) -> dict[str, str]:
        """Return the conclusion of each case, by its id."""
        return {record.case: record.verdict for record in self.records}


class Project:
    """A folder with a conftest and tests; nothing of it is shared with other sessions on this machine."""

    def __init__(self, folder: Path, tests: str = PARITY, conftest: str = CONFTEST) -> None:
        self.folder = folder / "project"
        self.scratch, self.temporary, self.notes = folder / "scratch", folder / "tmp", folder / "notes"
        for made in (self.folder, self.scratch, self.temporary, self.notes):
            made.mkdir()
        self.write("pytest.ini", INI)
        self.write("conftest.py", conftest)
        self.write("test_case.py", tests)
        self.environment = os.environ | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'fixtures'}",
            # The lease on the machine and the scratch folder of these tests are their own.
            "TMPDIR": str(self.temporary),
            "LOCKSTEP_SCRATCH": str(self.scratch),
            "LOCKSTEP_TEST_NOTES": str(self.notes),
        }
        for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "CUDA_VISIBLE_DEVICES", "COLUMNS"):
            self.environment.pop(name, None)

    def write(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def start(self, *args: str, **environment: str) -> subprocess.Popen[str]:
        """Start pytest; it leads a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *args],
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def end(self, process: subprocess.Popen[str]) -> Result:
        """Wait for pytest to end."""
        text, _ = process.communicate(timeout=PATIENCE_S)
        return Result(code=process.returncode, text=text, reports=self.folder / "reports")

    def run(self, *args: str, **environment: str) -> Result:
        """Run pytest to its end."""
        return self.end(self.start(*args, **environment))

    def noted(self) -> list[str]:
        """Return what the project's tests and ranks have noted: the names of files in a folder."""
        return sorted(path.name for path in self.notes.iterdir())

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something outside this process has happened."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "nothing has happened"
            time.sleep(0.01)

    def scratch_left(self) -> list[str]:
        """Return what is left in the place for scratch folders."""
        return sorted(path.name for path in self.scratch.iterdir())
