"""Writing a session's records and report; it lives in the one process that does so (pytest-xdist's controller)."""

from __future__ import annotations

import shlex
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness import history, interrupts, options, parametrisation, processes, progress, report, store
from harness.claims import PublishedClaim
from harness.course import CASE_ID, case_of
from harness.errors import MissingRequirementError, StoreError
from harness.evidence.keeping import NOT_KEPT
from harness.measure import machine
from harness.record import Record
from harness.report import files
from harness.report.export import junit
from harness.session import Options
from harness.spec import Case
from harness.strategies import base as strategies

# A report is also rendered while the run goes on, so that even a killed one leaves a page; not more often than this.
RENDER_EVERY_S = 20.0


class Journalist:
    """Appends each record as its test ends and renders the report; where the folder refuses, in another one."""

    def __init__(self, config: pytest.Config, own: Options) -> None:
        self._started = store.utc_now()
        self._config = config
        self._options = own
        self._journal: store.Journal | None = None
        self._place: Path | None = own.report_dir
        self._records: list[Record] = []
        # What is written, in this order: records, and claims of studies.
        self._entries: list[Record | PublishedClaim] = []
        # The cases of the tests that are to be run, by their ids.
        self._cases: set[str] = set()
        self._num_written = 0
        self._rendered_s = time.monotonic()
        self._took_s = 0.0
        self._told: list[str] = []
        self._misuse: str | None = None
        self._failed = False
        self._page: Path | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the record that a test's last report carries."""
        packed = getattr(report, "lockstep", None)
        if packed is not None:
            self._keep(msgspec.json.decode(packed, type=Record, strict=False))
        for line in getattr(report, "lockstep_injected", ()):
            self._keep(msgspec.json.decode(line, type=Record, strict=False))
        for line in getattr(report, "lockstep_claims", ()):
            self._keep(msgspec.json.decode(line, type=PublishedClaim, strict=False))

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """Record the case that a pytest worker died of."""
        named = CASE_ID.search(crashitem)
        if named is None:
            return
        case = msgspec.convert(named.groupdict(), Case, strict=False)
        known = strategies.strategies().get(case.strategy)
        self._keep(
            store.not_verified(
                self._options.run,
                case,
                framework=known.framework if known else "",
                reason="the pytest worker that ran it died",
                test=crashitem,
            )
        )

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """See which cases there are: a run without any is none of ours."""
        self._cases |= {offer.case.id for item in session.items if (offer := parametrisation.offer_of(item))}

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """See which cases a pytest worker has found."""
        self._cases |= {case for case in map(case_of, ids) if case is not None}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take note of what a pytest worker could not make of the options."""
        self._misuse = getattr(node, "workeroutput", {}).get("lockstep", self._misuse)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Close the journal, render the report, and fail a run that verified nothing of what it was asked for."""
        with interrupts.deferred() as came:
            self._judge(session)
            if self._entries or (exitstatus == pytest.ExitCode.INTERRUPTED and self._cases):
                self._save()
                self._fail(session)
                self._save(exit_status=int(session.exitstatus))
                self._render()
                self._tell_junit()
                self._fail(session)
        if came:
            session.exitstatus = pytest.ExitCode.INTERRUPTED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say in a table what the cases came to, and where the report lies."""
        if self._journal is None and not self._told:
            return
        terminalreporter.section("lockstep")
        if self._journal is not None:
            # Where nobody sits at it, a line may be as long as it is.
            width = terminalreporter._tw.fullwidth if terminalreporter.isatty else None
            found = store.read(self._journal.directory)
            for line in report.terminal(found, width=width, paint=progress.painted(terminalreporter)):
                terminalreporter.write_line(line)
        for line in self._told:
            terminalreporter.write_line(line, red=True)
        if self._page is not None:
            here = self._config.invocation_params.dir
            page = self._page.relative_to(here) if self._page.is_relative_to(here) else self._page
            terminalreporter.write_line(f"report: {page}")

    def _judge(self, session: pytest.Session) -> None:
        """Fail a run that verified nothing of what it was asked for; where nothing was asked of Lockstep, it may."""
        if self._misuse is not None:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            self._told.append(f"ERROR: {self._misuse}")
            return
        self._judge_gate()
        self._judge_traces()
        asked = options.asked(self._config)
        if not asked or any(record.verdict != "not-verified" for record in self._records):
            return
        # Without a case, -m may have asked for tests that are none of ours.
        ours = bool(self._records) or self._options.selection.asked
        if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED or (
            ours and session.exitstatus == pytest.ExitCode.OK and not self._config.getoption("collectonly", False)
        ):
            reasons = sorted({record.reason for record in self._records}) or ["no case fits; `harness list` shows all"]
            self._told.append(f"asked for {asked} and verified nothing: {'; '.join(reasons)}")
            self._failed = True
            self._fail(session)

    def _judge_gate(self) -> None:
        """Fail a run that was to be held against a named one, and of which nothing could be.

        Of ``auto``, that there is such a run was nobody's claim: what could not be compared is told.
        """
        own = self._options
        found = {r.case: r.timing.compared for r in self._records if r.timing is not None and r.timing.compared}
        if own.compare_to == history.AUTO:
            reasons = [compared.words.removeprefix("not compared: ") for compared in found.values() if compared.refused]
            if reasons:
                cases = "1 case was" if len(reasons) == 1 else f"{len(reasons)} cases were"
                self._told.append(f"{cases} not compared: {'; '.join(dict.fromkeys(reasons))}")
        elif own.fail_slower is not None and found and all(one.outcome is None for one in found.values()):
            told = "; ".join(sorted({compared.words for compared in found.values()}))
            self._told.append(f"asked for --ls-compare-to {own.compare_to} and compared nothing: {told}")
            self._failed = True

    def _judge_traces(self) -> None:
        """Fail a run that could not keep what its cases were judged by."""
        judged = [record for record in self._records if record.verdict != "not-verified"]
        lost = {record.case: record.traces for record in judged if record.traces.startswith(NOT_KEPT)}
        if lost:
            told = f"asked for --ls-keep-traces, but of {len(lost)} judged {'case' if len(lost) == 1 else 'cases'}"
            self._told.append(f"{told} the traces were {'; '.join(sorted(set(lost.values())))}")
            self._failed = True

    def _fail(self, session: pytest.Session) -> None:
        if self._failed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _keep(self, entry: Record | PublishedClaim) -> None:
        self._entries.append(entry)
        if isinstance(entry, Record):
            self._records.append(entry)
        self._save()
        self._render_now_and_then()

    def _save(self, *, exit_status: int | None = None) -> None:
        """Write the records that are not written yet; where the folder refuses, all of them in another one."""
        while self._place is not None:
            try:
                self._write(self._place, exit_status)
            except StoreError as error:
                self._move(error)
            else:
                return

    def _write(self, place: Path, exit_status: int | None) -> None:
        if self._journal is None:
            self._journal = store.Journal(place / self._options.run, self._info())
        while self._num_written < len(self._entries):
            self._journal.append(self._entries[self._num_written])
            self._num_written += 1
        if exit_status is not None:
            self._journal.finish(exit_status)

    def _move(self, error: StoreError) -> None:
        """Go on in a folder for temporary files; the run fails, as what is expected in the first one is not there."""
        if self._journal is not None:
            self._journal.close()
        first = self._place == self._options.report_dir
        self._journal, self._place, self._num_written, self._failed = None, None, 0, True
        if first:
            try:
                self._place = Path(tempfile.mkdtemp(prefix="lockstep-reports-"))
            except OSError as again:
                self._told.append(f"{error}; neither can {tempfile.gettempdir()} be written: {again}")
        where = f"the records are in {self._place} instead" if self._place else "the records are lost"
        self._told.append(f"{error}; {where}")

    def _info(self) -> store.RunInfo:
        return store.RunInfo(
            id=self._options.run,
            started=self._started,
            command=shlex.join(["pytest", *map(str, self._config.invocation_params.args)]),
            asked=options.asked(self._config),
            environment=machine.environment(),
            process=processes.name(),
            num_planned=len(self._cases),
        )

    def _render_now_and_then(self) -> None:
        """Render the report in between, where enough time has passed and no pytest worker measures on this machine."""
        if time.monotonic() - self._rendered_s <= max(RENDER_EVERY_S, self._took_s / files.SHARE):
            return
        with files.unless_measured() as free:
            if free:
                began_s = time.monotonic()
                self._render()
                self._rendered_s = time.monotonic()
                self._took_s = self._rendered_s - began_s

    def _render(self) -> None:
        if self._journal is None:
            return
        try:
            self._page = report.write(self._journal.directory, refresh_s=RENDER_EVERY_S)
        except MissingRequirementError as error:
            self._told.append(f"no report: {error}")
        except StoreError as error:
            self._told.append(f"no report: {error}")
            self._failed = True

    def _tell_junit(self) -> None:
        """Put the run and its answer at the head of the JUnit XML, where pytest writes one."""
        if self._journal is None or not self._config.getoption("xmlpath", None):
            return
        # The fixture record_testsuite_property does the same, but not under pytest-xdist.
        xml = next(one for one in self._config.pluginmanager.get_plugins() if hasattr(one, "add_global_property"))
        for name, value in junit.of_run(store.read(self._journal.directory)):
            xml.add_global_property(name, value)


def pack(entry: Record | PublishedClaim) -> str:
    """Return a record or a claim in a form that a test report carries from worker to controller."""
    return store.encode(entry).decode()
