"""Signals that end a run: they all work like Ctrl-C, and wait while a report is written.

pytest turns Ctrl-C into an orderly end: the ranks are killed and the report is written. A supervisor's SIGTERM and the
SIGHUP of a terminal that closes would end the process on the spot instead.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from harness.launchers import guardian

LIKE_CTRL_C = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupts:
    """Makes signals work like Ctrl-C in this process from ``take_over`` to ``give_back``; a plugin of pytest."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._taken: list[signal.Signals] = []
        self._workers: list[subprocess.Popen[bytes]] = []

    def take_over(self) -> None:
        """Handle the signals that nobody handles yet; off the main thread they are the caller's business."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in LIKE_CTRL_C:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._interrupt)
                self._taken.append(number)

    def end_with_parent(self) -> None:
        """Have a worker of pytest-xdist interrupted when its controller dies, after which it would go on for 5 s."""
        if sys.platform == "linux":
            guardian.prctl(guardian.PR_SET_PDEATHSIG, signal.SIGTERM)

    def give_back(self) -> None:
        """Let the signals do what they did before."""
        while self._taken:
            signal.signal(self._taken.pop(), signal.SIG_DFL)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        """Remember a worker of pytest-xdist."""
        process = getattr(getattr(node.gateway, "_io", None), "popen", None)
        if isinstance(process, subprocess.Popen):
            self._workers.append(process)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Interrupt the workers, too, which Ctrl-C reaches by itself; pytest-xdist lets them go on for 5 s."""
        if str(excinfo.value) in {number.name for number in self._taken}:
            for worker in self._workers:
                if worker.poll() is None:
                    worker.send_signal(signal.SIGINT)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            # A child that a test has forked: it ends as if the handler were not there.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        raise KeyboardInterrupt(signal.Signals(number).name)


@contextmanager
def deferred() -> Iterator[list[signal.Signals]]:
    """Keep signals from interrupting the block; the list holds those that came."""
    came: list[signal.Signals] = []
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, *LIKE_CTRL_C):
            if signal.getsignal(number) is not None:  # else not set from Python, and not to be set again from here
                before[number] = signal.signal(number, lambda got, _frame: came.append(signal.Signals(got)))
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
