"""Signals that end a run work like Ctrl-C, and wait while a report is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness import interrupts
from harness.interrupts import Interrupts

NUMBERS = [signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def _nobody_handles_them() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_an_interrupt_that_tells_its_name(number: signal.Signals) -> None:
    own = Interrupts()
    own.take_over()
    try:
        with pytest.raises(KeyboardInterrupt, match=number.name):
            os.kill(os.getpid(), number)
    finally:
        own.give_back()
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_handler_that_somebody_else_has_set_stays() -> None:
    def theirs(_number: int, _frame: object) -> None: ...

    signal.signal(signal.SIGTERM, theirs)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    own = Interrupts()
    own.take_over()
    assert signal.getsignal(signal.SIGTERM) is theirs
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    own.give_back()
    assert signal.getsignal(signal.SIGTERM) is theirs


def test_off_the_main_thread_signals_are_the_callers_business() -> None:
    def take_over() -> None:
        Interrupts().take_over()
        with interrupts.deferred():
            pass

    thread = threading.Thread(target=take_over)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_signals_wait_until_the_block_has_ended() -> None:
    own = Interrupts()
    own.take_over()
    try:
        with interrupts.deferred() as came:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        assert came == [signal.SIGTERM, signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        own.give_back()


def test_workers_are_interrupted_by_a_signal_but_not_by_ctrl_c_which_reaches_them_itself() -> None:
    ready = "print('ready', flush=True); import time; time.sleep(3600)"
    with subprocess.Popen([sys.executable, "-c", ready], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        own = Interrupts()
        own.take_over()
        own.pytest_testnodeready(SimpleNamespace(gateway=SimpleNamespace(_io=SimpleNamespace(popen=worker))))
        own.pytest_testnodeready(SimpleNamespace(gateway=SimpleNamespace()))  # on another machine
        try:
            own.pytest_keyboard_interrupt(_info(KeyboardInterrupt()))
            assert worker.poll() is None
            own.pytest_keyboard_interrupt(_info(KeyboardInterrupt("SIGTERM")))
            assert worker.wait(timeout=30) != 0
            own.pytest_keyboard_interrupt(_info(KeyboardInterrupt("SIGTERM")))  # it is gone: nothing to do
        finally:
            own.give_back()
            worker.kill()


def _info(error: BaseException) -> pytest.ExceptionInfo[BaseException]:
    return cast("pytest.ExceptionInfo[Any]", SimpleNamespace(value=error))
