"""A live line that names the case now running, to the right of pytest's dots; only where a person watches."""

from __future__ import annotations

import pytest

SAVE, RESTORE, ERASE = "\x1b7", "\x1b8", "\x1b[K"
# What pytest writes at the right edge: "[100%]" and some air.
MARGIN = 10


class Progress:
    """Shows the running test behind the dots and takes it away again; with -v pytest itself names each test."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._shown = False

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Name the test that starts."""
        self._show(nodeid.rpartition("::")[2])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logfinish(self) -> None:
        """Make room for what pytest writes."""
        self._show("")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self) -> None:
        """Make room for a dot, which under pytest-xdist comes while another test is shown."""
        self._show("")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Leave nothing behind, also where a test was interrupted."""
        self._show("")

    def _show(self, text: str) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is None or not terminal.isatty or terminal.verbosity != 0 or (not text and not self._shown):
            return
        room = terminal._tw.fullwidth - terminal._tw.width_of_current_line - MARGIN
        if room <= 0 and text:
            return
        # Written past the terminal writer, which must not count these columns as its own.
        terminal._tw._file.write(f"{SAVE}{ERASE}  {text[:room]}{RESTORE}" if text else ERASE)
        terminal._tw.flush()
        self._shown = bool(text)
