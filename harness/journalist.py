"""Writing a session's records and report; it lives in the one process that does so (pytest-xdist's controller)."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from harness import report, store
from harness.errors import MissingRequirementError, StoreError
from harness.measure import machine
from harness.record import Record
from harness.session import Options

# A report is also rendered while the run goes on, so that even a killed one leaves a page; not more often than this.
RENDER_EVERY_S = 20.0


class Journalist:
    """Appends each record as its test ends and renders the report; where the folder refuses, in another one."""

    def __init__(self, config: pytest.Config, options: Options, *, asked: str) -> None:
        self._config = config
        self._options = options
        self._asked = asked
        self._journal: store.Journal | None = None
        self._records: list[Record] = []
        self._rendered_s = time.monotonic()
        self._told: list[str] = []
        self._page: Path | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the record that a test's last report carries."""
        packed = getattr(report, "lockstep", None)
        if packed is None:
            return
        record = msgspec.json.decode(packed, type=Record, strict=False)
        self._records.append(record)
        self._write(lambda journal: journal.append(record))
        if time.monotonic() - self._rendered_s > RENDER_EVERY_S:
            self._render()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Close the journal, render the report, and fail a run that verified nothing of what it was asked for."""
        if not self._records:
            return
        verified = [record for record in self._records if record.verdict != "not-verified"]
        if not verified and self._asked and exitstatus == pytest.ExitCode.OK:
            reasons = sorted({record.reason for record in self._records})
            self._told.append(f"asked for {self._asked} and verified nothing: {'; '.join(reasons)}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._write(lambda journal: journal.finish(int(session.exitstatus)))
        self._render()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say in a table what the cases came to, and where the report lies."""
        if self._journal is None:
            return
        terminalreporter.section("lockstep")
        for line in report.terminal(store.read(self._journal.directory)):
            terminalreporter.write_line(line)
        for line in self._told:
            terminalreporter.write_line(line, red=True)
        if self._page is not None:
            terminalreporter.write_line(f"report: {self._page}")

    def _write(self, write: Callable[[store.Journal], None]) -> None:
        """Write to the journal; when its folder refuses, start another one with all records so far."""
        try:
            write(self._journal or self._open(self._options.report_dir))
        except StoreError as error:
            if self._journal is not None and self._journal.directory.parent == _elsewhere():
                raise
            self._told.append(f"{error}; the records went to {_elsewhere()} instead")
            self._journal = None
            journal = self._open(_elsewhere())
            for record in self._records[:-1]:
                journal.append(record)
            write(journal)

    def _open(self, report_dir: Path) -> store.Journal:
        info = store.RunInfo(
            id=self._options.run,
            started=store.utc_now(),
            command=shlex.join(["pytest", *map(str, self._config.invocation_params.args)]),
            asked=self._asked,
            environment=machine.environment(),
        )
        self._journal = store.Journal(report_dir / self._options.run, info)
        return self._journal

    def _render(self) -> None:
        self._rendered_s = time.monotonic()
        if self._journal is None:
            return
        try:
            self._page = report.write(self._journal.directory)
        except (MissingRequirementError, StoreError) as error:
            self._told.append(f"no report: {error}")


def _elsewhere() -> Path:
    return Path(tempfile.gettempdir()) / "lockstep-reports"


def pack(record: Record) -> str:
    """Return a record in a form that a test report carries from worker to controller."""
    return store.encode(record).decode()
