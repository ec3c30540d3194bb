"""A live line below pytest's dots: what the cases came to so far, which runs now, how long it will still take.

It is there only where a person watches. There is no clock behind it that could disturb what is timed: it is written
anew where something happens (a test begins, a phase ends, a round was timed), and taken away before pytest writes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from harness.course import Course, Told, case_of
from harness.record import Conclusion
from harness.report import words
from harness.report.console import Paint, clean
from harness.timings import Interval

ERASE = "\x1b[K"
BETWEEN = " · "
# No more often than that is a line written while a case is timed.
EVERY_S = 1.0
# Fewer rounds have no interval that says anything.
ENOUGH = 4
NARROWEST = 20
# The colours of verdicts on the page, as far as terminals have them.
_MARKUP: dict[Conclusion, dict[str, bool]] = {
    "equivalent": {"green": True},
    "different": {"red": True},
    "inconclusive": {"yellow": True},
    "not-verified": {"light": True},
}
# A piece of the line, and in whose colours it is shown.
Piece = tuple[str, Conclusion | None]


class Progress:
    """Shows the line and takes it away again; with -v pytest itself names each test, and with -q nobody asks."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._course = Course()
        self._began_s = self._written_s = time.monotonic()
        self._rounds = ""
        self._shown = False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Count what will run."""
        self._course.expect(item.nodeid for item in session.items)
        self._began_s = time.monotonic()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Count what the workers of pytest-xdist will run; each has found the same."""
        if not self._course.left_of_kind:
            self._course.expect(ids)
            self._began_s = time.monotonic()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logstart(self, nodeid: str) -> Generator[None, None, None]:
        """Name the test that starts."""
        self._erase()
        yield
        self._rounds = ""
        self._course.begin(nodeid, time.monotonic())
        self._show()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, None, None]:
        """Make room for a dot, and count what the case came to."""
        self._erase()
        yield
        self._course.phase(report.nodeid, report.duration)
        packed = getattr(report, "lockstep", None)
        if packed is not None:
            self._course.tell(msgspec.json.decode(packed, type=Told))
        self._show()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> Generator[None, None, None]:
        """Make room for what pytest writes at the end of a line."""
        self._erase()
        yield
        self._course.end(nodeid)
        self._show()

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """End a test that a pytest worker died of; pytest-xdist says no more of it."""
        self._erase()
        self._course.drop(crashitem)
        if (case := case_of(crashitem)) is not None:
            self._course.tell(Told(case=case, verdict="not-verified"))
        self._show()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Leave nothing behind, also where a test was interrupted."""
        self._erase()

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self) -> None:
        """Make room for an error of pytest's own."""
        self._erase()

    @pytest.hookimpl(tryfirst=True)
    def pytest_enter_pdb(self) -> None:
        """Make room for a debugger."""
        self._erase()

    def round_timed(self, num_rounds: int, speedup: Callable[[], Interval] | None) -> None:
        """Tell of a round of the case that is timed now; ``speedup`` finds what it is so far, where that may be told.

        Between two rounds every rank stands still. What takes time is done only where somebody watches, and seldom.
        """
        now_s = time.monotonic()
        if now_s - self._written_s < EVERY_S or self._terminal() is None:
            return
        so_far = f", {words.speedup(speedup())}" if speedup is not None and num_rounds >= ENOUGH else ""
        self._rounds = f"rounds {num_rounds}{so_far}"
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if capture is None:
            return
        with capture.global_and_fixture_disabled():
            self._erase()
            self._show()

    def _terminal(self) -> Any | None:
        """Return pytest's terminal where a line may be shown on it."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is None or not terminal.isatty or terminal.verbosity != 0:
            return None
        # What tests print and log while they run comes where the line is.
        mixed = self._config.getoption("capture", "fd") == "no" or self._logs_live()
        return None if mixed else terminal

    def _logs_live(self) -> bool:
        """Return whether pytest shows what is logged; without its logging plugin there is not even the option."""
        return self._config.pluginmanager.hasplugin("logging-plugin") and bool(self._config.getini("log_cli"))

    def _show(self) -> None:
        terminal = self._terminal()
        if terminal is None or not self._course.running or not self._course.num_cases:
            return
        # pytest takes a terminal of less than 40 columns for one of 80.
        column, width = terminal._tw.width_of_current_line, min(terminal._tw.fullwidth, _num_columns())
        if not (column < width and width >= NARROWEST):
            return
        now_s = time.monotonic()
        pieces = line(self._course, now_s, since_s=now_s - self._began_s, rounds=self._rounds, width=width - 1)
        paint = painted(terminal)
        text = "".join(paint(text, tone) if tone else text for text, tone in pieces)
        self._write(terminal, f"\n\r{ERASE}{text}", column)
        self._written_s, self._shown = now_s, True

    def _erase(self) -> None:
        terminal = self._terminal()
        if terminal is not None and self._shown:
            self._write(terminal, f"\x1b[B\r{ERASE}", terminal._tw.width_of_current_line)
            self._shown = False

    def _write(self, terminal: Any, text: str, column: int) -> None:
        """Write in the next line and come back; past the terminal writer, which must not count these columns."""
        terminal._tw._file.write(f"{text}\x1b[A\x1b[{column + 1}G")
        terminal._tw.flush()


def _num_columns() -> int:
    return shutil.get_terminal_size().columns


def painted(terminal: Any) -> Paint:
    """Return what gives a verdict its colours on pytest's terminal, where that shows colours."""

    def paint(text: str, tone: Conclusion) -> str:
        found: str = terminal._tw.markup(text, **_MARKUP[tone])
        return found

    return paint


def line(course: Course, now_s: float, *, since_s: float, rounds: str, width: int) -> list[Piece]:
    """Return the line in pieces, no longer than ``width``: what is least needed is left out first."""
    tally = list(_tally(course))
    troubles = list(_tally(course, only=("different", "inconclusive")))
    cases: list[Piece] = (
        [(f"{course.num_done}/{words.count(course.num_cases, 'case')}", None)] if course.num_cases else []
    )
    last = list(course.running)[-1:]
    now: list[Piece] = [(_running(course, test, now_s), None) for test in last]
    left = course.left_s(now_s) if course.num_cases else None
    clock: list[Piece] = [(_clock(since_s) + (f", {_left(left)}" if left is not None else ""), None)]
    # In this order on the line; the number says what is left out first.
    parts: list[tuple[int, list[Piece]]] = [
        (0, cases),
        (3, tally),
        (1, now),
        (4, [(rounds, None)] if rounds else []),
        (2, clock),
    ]
    for tried in (tally, troubles):
        parts[1] = (3, tried)
        for most in (4, 3) if tried is tally else (4, 3, 2, 1):
            shown = [part for importance, part in parts if part and importance <= most]
            found: list[Piece] = [piece for part in shown for piece in [(BETWEEN, None), *part]][1:]
            if sum(len(text) for text, _ in found) <= width:
                return found
    return [("".join(text for text, _ in [*cases, (BETWEEN if cases else "", None), *now])[:width], None)]


def _tally(course: Course, only: Sequence[Conclusion] = ()) -> Iterator[Piece]:
    parts = [(f"{number} {word}", tone) for number, word, tone in course.counted() if not only or tone in only]
    for place, part in enumerate(parts):
        yield from [(", ", None), part] if place else [part]


def _running(course: Course, test: str, now_s: float) -> str:
    others = len(course.running) - 1
    for_s = now_s - course.running[test]
    name = clean(case_of(test) or test.rpartition("::")[2])
    return f"{name}{f' for {_clock(for_s)}' if for_s >= 1 else ''}{f' and {others} more' if others else ''}"


def _clock(duration_s: float) -> str:
    """Return for example ``0:43`` or ``1:02:03``."""
    minutes, second = divmod(int(duration_s), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"


def _left(duration_s: float) -> str:
    if duration_s < 45:
        return "less than a minute left"
    if duration_s < 5400:
        return f"about {max(1, round(duration_s / 60))} min left"
    return f"about {duration_s / 3600:.1f} h left"
