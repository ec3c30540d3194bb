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

from plugin_project import CONFTEST, ONE, PARITY, Project

WIDTH = 100


class Screen:
    """As much of a terminal as pytest and the plugin use: lines of cells, a cursor, save, restore, erase."""

    def __init__(self, width: int) -> None:
        self.lines: list[list[str]] = [[]]
        self.width = width
        self.column = 0
        self.saved = 0

    def feed(self, text: str) -> None:
        for token in re.findall(r"\x1b7|\x1b8|\x1b\[[0-9;?]*[A-Za-z]|.", text, re.DOTALL):
            self._take(token)

    def _take(self, token: str) -> None:
        line = self.lines[-1]
        if token == "\n":
            self.lines.append([])
        elif token == "\r":
            self.column = 0
        elif token == "\x1b7":
            self.saved = self.column
        elif token == "\x1b8":
            assert self.column <= self.width, f"the live line is wrapped: {''.join(line)}"
            self.column = self.saved
        elif token == "\x1b[K":
            del line[self.column :]
        elif not token.startswith("\x1b"):
            line.extend(" " * (self.column + 1 - len(line)))
            line[self.column] = token
            self.column += 1

    @property
    def text(self) -> str:
        return "\n".join("".join(line).rstrip() for line in self.lines)


def on_a_terminal(project: Project, *arguments: str) -> str:
    """Run pytest on a terminal and return all that it has written there."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=project.folder,
        env=project.environment | {"TERM": "xterm"},
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


def shown(written: str) -> str:
    """Return what is left on the screen in the end."""
    screen = Screen(WIDTH)
    screen.feed(written)
    return screen.text


NAMED = "\x1b7\x1b[K  test_parity[tiny/numpy-mean/2/cpu]\x1b8"


def test_the_running_case_is_named_and_the_screen_is_left_clean(tmp_path: Path) -> None:
    written = on_a_terminal(Project(tmp_path), *ONE)
    assert NAMED in written
    (line,) = (line for line in shown(written).splitlines() if line.startswith("test_case.py"))
    assert re.fullmatch(r"test_case\.py \. +\[100%\]", line)


def test_an_interrupted_case_is_taken_off_the_screen(tmp_path: Path) -> None:
    project = Project(tmp_path, "import os, signal\ndef test_parity(case):\n    os.kill(os.getpid(), signal.SIGINT)\n")
    written = on_a_terminal(project, *ONE)
    assert NAMED in written
    assert "test_case.py" in shown(written).splitlines()
    assert "KeyboardInterrupt" in shown(written)


def test_a_name_too_long_for_the_line_is_cut(tmp_path: Path) -> None:
    project = Project(tmp_path, f"def test_{'long_' * 30}(verdict):\n    pass\n")
    written = on_a_terminal(project, *ONE)
    assert "test_long_long_" in written
    shown(written)  # which fails on a wrapped line


def test_where_pytest_names_each_test_itself_there_is_no_live_line(tmp_path: Path) -> None:
    assert "\x1b7" not in on_a_terminal(Project(tmp_path), *ONE, "-v")


def test_a_distributed_run_names_what_has_started_last(tmp_path: Path) -> None:
    written = on_a_terminal(Project(tmp_path, PARITY, CONFTEST), *ONE, "-n", "1")
    assert NAMED in written
    assert "numpy-mean/2/cpu]" not in shown(written)
