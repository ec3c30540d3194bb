"""The live line on a terminal: it names the case that runs now, and nothing of it stays on the screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from plugin_project import CONFTEST, ONE, PARITY, TIMING, Project

WIDTH = 100


class Screen:
    """As much of a terminal as pytest and the plugin use: lines of cells, a cursor, which moves, and erasing."""

    def __init__(self, width: int) -> None:
        self.lines: list[list[str]] = [[]]
        self.width = width
        self.row = self.column = 0

    def feed(self, text: str) -> None:
        for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|.", text, re.DOTALL):
            self._take(token)

    def _take(self, token: str) -> None:
        if token == "\n":
            self.row += 1
            self.lines += [[]] * (self.row == len(self.lines))
        elif token == "\r":
            self.column = 0
        elif token == "\x1b[A":
            assert self.column <= self.width, f"the live line is wrapped: {''.join(self.lines[self.row])}"
            self.row -= 1
        elif token == "\x1b[B":
            self.row = min(self.row + 1, len(self.lines) - 1)
        elif token.endswith("G"):
            self.column = int(token[2:-1]) - 1
        elif token == "\x1b[K":
            del self.lines[self.row][self.column :]
        elif not token.startswith("\x1b"):
            line = self.lines[self.row]
            line.extend(" " * (self.column + 1 - len(line)))
            line[self.column] = token
            self.column += 1

    @property
    def text(self) -> str:
        return "\n".join("".join(line).rstrip() for line in self.lines)


def on_a_terminal(project: Project, *arguments: str, width: int = WIDTH, **environment: str) -> str:
    """Run pytest on a terminal and return all that it has written there."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=project.folder,
        env=project.environment | {"TERM": "xterm"} | environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    written = b""
    try:
        while part := os.read(controller, 65536):
            written += part
    except OSError:  # how Linux tells that the other side has closed
        pass
    finally:
        os.close(controller)
    process.wait()
    return written.decode()


def shown(written: str, width: int = WIDTH) -> str:
    """Return what is left on the screen in the end."""
    screen = Screen(width)
    screen.feed(written)
    return screen.text


def live(written: str) -> list[str]:
    """Return every line that was shown for a while, without its colours."""
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in re.findall(r"\n\r\x1b\[K(.*?)\x1b\[A", written)]


CASE = "tiny/numpy-mean/2/cpu"
WRONG = CONFTEST + "numpy_strategies.misbehaving('sum')\n"
TWO = (*ONE, "--ls-strategy=numpy-sum")


def test_the_running_case_is_named_and_the_screen_is_left_clean(tmp_path: Path) -> None:
    written = on_a_terminal(Project(tmp_path), *ONE)
    assert live(written)[0] == f"0/1 case · {CASE} · 0:00"
    (line,) = (line for line in shown(written).splitlines() if line.startswith("test_case.py"))
    assert re.fullmatch(r"test_case\.py \. +\[100%\]", line)
    assert "0/1 case" not in shown(written)


def test_what_cases_came_to_is_counted_in_the_colours_of_the_report(tmp_path: Path) -> None:
    written = on_a_terminal(Project(tmp_path, PARITY, WRONG), *TWO)
    assert live(written)[-1].startswith("2/2 cases · 1 equivalent, 1 different · tiny/numpy-sum/2/cpu · 0:")
    assert "\x1b[31m1 different\x1b[0m" in written
    assert "\x1b[32m1 equivalent\x1b[0m" in written


@pytest.mark.parametrize(("option", "no_color"), [("--color=no", ""), ("--color=auto", "1")])
def test_without_colours_the_words_say_it_alone(tmp_path: Path, option: str, no_color: str) -> None:
    written = on_a_terminal(Project(tmp_path, PARITY, WRONG), *TWO, option, NO_COLOR=no_color)
    assert "1 different" in live(written)[-1]
    assert "\x1b[3" not in written


def test_an_interrupted_case_is_taken_off_the_screen(tmp_path: Path) -> None:
    project = Project(tmp_path, "import os, signal\ndef test_parity(case):\n    os.kill(os.getpid(), signal.SIGINT)\n")
    written = on_a_terminal(project, *ONE)
    assert CASE in live(written)[0]
    assert "test_case.py" in shown(written).splitlines()
    assert "KeyboardInterrupt" in shown(written)
    assert "0/1 case" not in shown(written)


@pytest.mark.parametrize("width", [24, 60])
def test_a_line_too_long_for_the_terminal_is_cut(tmp_path: Path, width: int) -> None:
    project = Project(tmp_path, f"def test_{'long_' * 30}(verdict):\n    pass\n")
    written = on_a_terminal(project, *ONE, width=width)
    assert live(written)[0].startswith("0/1 case · tiny/numpy-me"[: width - 1])
    assert max(map(len, live(written))) < width
    shown(written, width)  # which fails on a wrapped line


def test_a_terminal_too_narrow_for_anything_shows_nothing(tmp_path: Path) -> None:
    assert live(on_a_terminal(Project(tmp_path), *ONE, width=12)) == []


@pytest.mark.parametrize("option", ["-v", "-q", "-s"])
def test_where_other_words_stand_in_its_place_there_is_no_live_line(tmp_path: Path, option: str) -> None:
    assert live(on_a_terminal(Project(tmp_path), *ONE, option)) == []


def test_into_a_pipe_goes_no_live_line(tmp_path: Path) -> None:
    assert "\x1b" not in Project(tmp_path).run(*ONE).text


def test_a_project_without_cases_is_left_alone(tmp_path: Path) -> None:
    written = on_a_terminal(Project(tmp_path, "def test_own():\n    pass\n"))
    assert live(written) == []
    assert "1 passed" in written


def test_where_pytest_logs_nothing_the_line_is_shown_too(tmp_path: Path) -> None:
    written = on_a_terminal(Project(tmp_path), *ONE, "-p", "no:logging")
    assert live(written)[0] == f"0/1 case · {CASE} · 0:00"
    assert "1 passed" in written


def test_a_case_whose_pytest_worker_dies_runs_no_longer(tmp_path: Path) -> None:
    tests = "import os\ndef test_fatal(case):\n    if case.world_size == 2:\n        os._exit(1)\n"
    written = on_a_terminal(Project(tmp_path, tests), *ONE, "--ls-world-size=3", "-n", "1", width=140)
    assert live(written)[-1].startswith("2/2 cases")
    assert "2 not verified" in live(written)[-1]
    assert "more" not in live(written)[-1], "only one runs"


def test_a_timed_case_tells_its_rounds_while_they_are_timed(tmp_path: Path) -> None:
    # Every round is told here: a test must not wait for seconds to pass.
    eager = CONFTEST + "from harness import progress\nprogress.EVERY_S = 0.0\n"
    written = on_a_terminal(Project(tmp_path, TIMING, eager), *ONE, width=140)
    rounds = [line for line in live(written) if "rounds" in line]
    assert "rounds 1 · " in rounds[0]
    assert re.search(r"rounds 4, \d+\.\d\dx \[\d+\.\d\d, \d+\.\d\d\]", "\n".join(rounds))
    assert "rounds" not in shown(written, 140)


def test_a_distributed_run_names_what_has_started_last(tmp_path: Path) -> None:
    written = on_a_terminal(Project(tmp_path, PARITY, CONFTEST), *ONE, "-n", "1")
    assert live(written)[0] == f"0/1 case · {CASE} · 0:00"
    assert "numpy-mean/2/cpu" not in shown(written).partition(" lockstep ")[0]
