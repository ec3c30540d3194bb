"""A page that stays current: written again where something is new, until the run has ended or was killed."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.sample_records import record, write_run
from harness import processes, store
from harness.cli import main
from harness.measure import lease
from harness.report import watch
from harness.report.command import Line
from harness.report.html import page
from harness.store import Journal, RunInfo, new_run_id

STRATEGIES = ("torch-ddp", "torch-fsdp", "torchgpipe")


class Told(list[str]):
    """What was told."""

    def __call__(self, text: str) -> None:
        self.append(text)


class Clock:
    """A time that passes only where somebody waits, and what happens meanwhile, one thing a wait."""

    def __init__(self, *happens: Callable[[], object]) -> None:
        self.now_s = 0.0
        self.happens = list(happens)

    def __call__(self) -> float:
        return self.now_s

    def wait(self, duration_s: float) -> None:
        assert duration_s >= watch.EVERY_S
        self.now_s += duration_s
        if self.happens:
            self.happens.pop(0)()


@pytest.fixture(autouse=True)
def own_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let no measurement of another session keep these pages from being written."""
    path = tmp_path / "own.lease"
    monkeypatch.setattr(lease, "machine", lambda: path)
    return path


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float | None]]:
    """How many records were on each page that was written, and how often it asks for itself."""
    found: list[tuple[int, float | None]] = []

    def write(run: store.Run, *, output: Path | None = None, refresh_s: float | None = None) -> Path:
        found.append((len(run.records), refresh_s))
        return output or run.directory / "index.html"

    monkeypatch.setattr(page, "write", write)
    return found


def journal(folder: Path, process: str | None = None) -> Journal:
    name = processes.name() if process is None else process
    return Journal(folder, RunInfo(id=folder.name, started="2026-11-20T10:15:02Z", process=name))


def test_the_page_is_written_whenever_a_record_came_until_the_run_has_ended(
    tmp_path: Path, written: list[tuple[int, float | None]]
) -> None:
    run, told = journal(tmp_path / "run"), Told()
    run.append(record())
    one, two = (lambda name=name: run.append(record(name)) for name in STRATEGIES[1:])
    clock = Clock(lambda: None, one, lambda: None, two, lambda: run.finish(0))
    assert watch.watch(run.directory, tell=told, wait=clock.wait, clock=clock) is True
    assert written == [(number, watch.REFRESH_S) for number in (1, 2, 3, 3)]
    assert "2 cases: 2 equivalent" in told[1]
    assert told[-1] == "the run has ended: 3 of 3 strategies equal serial."


def test_a_claim_of_a_study_is_something_new_too(tmp_path: Path, written: list[tuple[int, float | None]]) -> None:
    run, told = journal(tmp_path / "run"), Told()
    run.append(record())

    def claim() -> None:
        (run.directory / store.CLAIMS).write_bytes(b"")

    clock = Clock(lambda: None, claim, lambda: None, lambda: run.finish(0))
    assert watch.watch(run.directory, tell=told, wait=clock.wait, clock=clock) is True
    assert len(written) == 3


def test_a_run_that_was_killed_is_told_from_one_that_goes_on(
    tmp_path: Path, written: list[tuple[int, float | None]]
) -> None:
    run, told = journal(tmp_path / "run", processes.name() + "1"), Told()
    run.append(record())
    clock = Clock()
    assert watch.watch(run.directory, tell=told, wait=clock.wait, clock=clock) is False
    assert told[-1].startswith("the run was killed: its process is gone")
    assert len(written) <= 2


def test_a_run_of_another_machine_is_given_up_when_nothing_was_heard_of_it_for_half_an_hour(
    tmp_path: Path, written: list[tuple[int, float | None]]
) -> None:
    run, told = journal(tmp_path / "run", "another-host/pid:[1]/17/123"), Told()
    run.append(record())
    late = [lambda: None] * 800
    clock = Clock(*late, lambda: run.append(record("torch-fsdp")))
    assert watch.watch(run.directory, tell=told, wait=clock.wait, clock=clock) is False
    assert "nothing has changed for 30 min" in told[-1]
    assert clock.now_s > 800 * watch.EVERY_S + watch.QUIET_S
    assert [number for number, _ in written] == [1, 2, 2]
    assert written[-1] == (2, None), "the last page no longer loads itself again"


def test_while_a_case_is_timed_here_nothing_is_written(
    tmp_path: Path, own_lease: Path, written: list[tuple[int, float | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, told = journal(tmp_path / "run"), Told()
    run.append(record())
    run.finish(0)
    measuring = lease.exclusive(own_lease)
    measuring.__enter__()
    monkeypatch.setenv(lease.HOLDER, "nobody")  # the watcher is a process of its own
    seen: list[int] = []
    clock = Clock(lambda: seen.append(len(written)), lambda: measuring.__exit__(None, None, None))
    assert watch.watch(run.directory, tell=told, wait=clock.wait, clock=clock) is True
    assert seen == [0]
    assert len(written) == 1


def test_without_a_name_the_run_that_goes_on_is_found_or_waited_for(tmp_path: Path) -> None:
    write_run(tmp_path / new_run_id(), [record()])
    told = Told()
    started: list[Path] = []

    def start() -> None:
        run = journal(tmp_path / new_run_id())
        started.append(run.directory)

    clock = Clock(lambda: None, start)
    assert watch.find(tmp_path, tell=told, wait=clock.wait) == started[0]
    assert told == [f"no run goes on in {tmp_path}: waiting for the next one (Ctrl-C ends this)"]
    assert watch.find(tmp_path, tell=told, wait=clock.wait) == started[0], "it goes on, and need not be waited for"


def test_the_command_writes_the_last_page_and_ends_with_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", [record()])
    assert main(["report", str(run), "--watch", "--output", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert {path.name for path in run.iterdir()} == {store.RECORDS, store.INFO}, "the run's folder is only read"
    told = capsys.readouterr().out.splitlines()
    assert "1 case: 1 equivalent" in told[0]
    assert told[-1].startswith("the run has ended: ")


def test_ctrl_c_ends_the_watching_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_args: object, **_settings: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch, "find", interrupted)
    assert main(["report", "--watch", "--ls-report-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_each_line_takes_the_place_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    out = Terminal()
    line = Line(out)
    line("one")
    line("a long line \x1b[31m of many words")
    line.close()
    assert out.getvalue() == "\r\x1b[Kone\r\x1b[Ka long line ?[31m o\n"
