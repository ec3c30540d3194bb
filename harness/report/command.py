"""``harness report``: a run's page, or its summary for a CI job, written again or kept current while it goes on."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from harness import report, store
from harness.report import files, job_page
from harness.report.console import clean


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Writes a run's page from its records. With --watch it does so whenever there is something new until the run "
        "has ended, and the page loads itself again; without RUN it takes the run that goes on, or waits for one."
    )
    parser.add_argument("run_name", nargs="?", metavar="RUN", help="a run's folder, its id, or 'latest' (the default)")
    manner = parser.add_mutually_exclusive_group()
    manner.add_argument("--markdown", action="store_true", help="print a summary for a CI job page instead")
    manner.add_argument("--watch", action="store_true", help="keep the page current until the run has ended")
    parser.add_argument(
        "--limit",
        type=int,
        default=job_page.STEP_SUMMARY,
        metavar="BYTES",
        help="how long the summary may be: what GitHub takes for a job page, unless said; for a comment 65000",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there, where the run's folder is read-only")
    parser.add_argument("--ls-report-dir", default=store.REPORT_DIR, metavar="DIR")


def run(parsed: argparse.Namespace, say: Callable[..., None]) -> int:
    """Write what was asked for; exit status 1 says that a watched run did not end by itself."""
    if parsed.watch:
        return _watch(parsed, sys.stdout)
    found = store.read(parsed.run_name or "latest", parsed.ls_report_dir)
    if not parsed.markdown:
        say(str(report.write(found, output=parsed.output)))
        return 0
    summary = report.markdown(found, limit=parsed.limit)
    if parsed.output is None:
        say(summary)
    else:
        content = summary.encode("utf-8", "replace")
        say(str(files.write(parsed.output, content, way_out="name another file with --output FILE")))
    return 0


def _watch(parsed: argparse.Namespace, out: TextIO) -> int:
    from harness.report import watch  # needs Jinja2, which the other manners do without

    line = Line(out)
    try:
        if parsed.run_name is None:
            folder = watch.find(parsed.ls_report_dir, tell=line)
        else:
            folder = store.resolve(parsed.run_name, parsed.ls_report_dir)
        return int(not watch.watch(folder, output=parsed.output, tell=line))
    except KeyboardInterrupt:
        return 0
    finally:
        line.close()


class Line:
    """Says one thing after the other: in the same place of a terminal, elsewhere on a line each."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()

    def __call__(self, text: str) -> None:
        """Say ``text`` in place of what was said before."""
        width = shutil.get_terminal_size().columns - 1
        self._out.write(f"\r\x1b[K{clean(text)[:width]}" if self._terminal else f"{clean(text)}\n")
        self._out.flush()

    def close(self) -> None:
        """Leave the last words on the screen."""
        if self._terminal:
            self._out.write("\n")
