"""Running one stage of a set-up so that it is never silent: its output goes to a log, a line every few seconds here.

Imports nothing but the standard library, so that the Makefile can run it as a script before anything is installed:
``python -P harness/stage.py [--log FILE] [--limit-s S] TITLE -- COMMAND...``.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

TICK_S = 10.0
# How long a command that was asked to stop may take to write what it has.
GRACE_S = 30.0
WIDTH = 100
NUM_LINES_SHOWN = 30
# What coreutils' timeout answers.
EXIT_LIMIT = 124


def say(text: str) -> None:
    """Print a line now, even into a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run(
    title: str,
    command: Sequence[str],
    *,
    log: Path | None = None,
    shown: str = "",
    tick_s: float = TICK_S,
    limit_s: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run ``command`` and return its exit code.

    With a ``log``, the output goes there, its last line in which the regular expression ``shown`` is found here every
    ``tick_s`` seconds, and its end here, too, when the command fails. Without one, the output is simply shown.
    After ``limit_s`` seconds the command is interrupted as by Ctrl-C, and killed if it is still there 30 s later.
    The exit code is then 124.

    Raises:
        OSError: the command cannot be started, or the log cannot be written.
    """
    say(f"{title} ...")
    started = time.monotonic()
    with subprocess.Popen(
        list(command),
        stdout=subprocess.PIPE if log else None,
        stderr=subprocess.STDOUT if log else None,
        text=True,
        errors="replace",
        env=None if environment is None else dict(environment),
    ) as process:
        output = _Output(process.stdout, log, shown) if log else None
        code = _watch(process, output, tick_s, limit_s)
        if output:
            output.close()
    if log:
        _tell_end(code, time.monotonic() - started, log)
    return code


class _Output:
    """Copies what a command prints to its log and keeps the last line that matters."""

    def __init__(self, source: IO[str] | None, log: Path, shown: str) -> None:
        assert source is not None
        self.last = ""
        self._shown = re.compile(shown)
        log.parent.mkdir(parents=True, exist_ok=True)
        self._file = log.open("w", encoding="utf-8", errors="replace")
        self._thread = threading.Thread(target=self._copy, args=(source,), daemon=True)
        self._thread.start()

    def _copy(self, source: IO[str]) -> None:
        for line in source:
            self._file.write(line)
            self._file.flush()
            if self._shown.search(line):
                self.last = short(line) or self.last

    def close(self) -> None:
        """Wait for the rest of the output, though not for a daemon that the command left behind."""
        self._thread.join(timeout=5)
        self._file.close()


def short(line: str) -> str:
    """Return a line of output without colours, cut to 100 characters."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line).strip()
    return plain if len(plain) <= WIDTH else plain[: WIDTH - 3] + "..."


def _watch(process: subprocess.Popen[str], output: _Output | None, tick_s: float, limit_s: float | None) -> int:
    started = time.monotonic()
    try:
        while True:
            left_s = float("inf") if limit_s is None else limit_s - (time.monotonic() - started)
            if left_s <= 0:
                say(f"  still running after {limit_s:.0f} s: stopping it")
                _stopped(process, signal.SIGINT)
                return EXIT_LIMIT
            try:
                return process.wait(timeout=min(tick_s, left_s))
            except subprocess.TimeoutExpired:
                if output:
                    say(f"  {time.monotonic() - started:4.0f} s  {output.last}")
    except KeyboardInterrupt:
        _stopped(process, None)  # a terminal's Ctrl-C has reached the command, too
        raise
    except SystemExit:
        _stopped(process, signal.SIGTERM)
        raise


def _stopped(process: subprocess.Popen[str], number: signal.Signals | None) -> None:
    if number is not None:
        process.send_signal(number)
    try:
        process.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _tell_end(code: int, passed_s: float, log: Path) -> None:
    if code == 0:
        say(f"  done in {passed_s:.0f} s")
        return
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    say(f"  FAILED (exit code {code}) after {passed_s:.0f} s; the end of {log}:")
    say("\n".join("  | " + line for line in lines[-NUM_LINES_SHOWN:]))


def _terminated(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage named on the command line and return its exit code."""
    parser = argparse.ArgumentParser(description="Run a command with a line of progress every few seconds.")
    parser.add_argument("title")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="after --")
    parser.add_argument("--log", type=Path, help="takes the command's output (default: it is shown)")
    parser.add_argument("--limit-s", type=float, help="interrupt the command after so many seconds")
    parser.add_argument("--tick-s", type=float, default=TICK_S, help="seconds between two lines (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return run(chosen.title, chosen.command, log=chosen.log, tick_s=chosen.tick_s, limit_s=chosen.limit_s)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OSError as error:
        say(f"  {chosen.command[0]} could not be run: {error}")
        return 127


if __name__ == "__main__":
    sys.exit(main())
