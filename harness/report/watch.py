"""Keeping a run's page current while the run goes on: look, write the page again where something is new, wait.

It only reads, and moves finished files into place: the run's folder may lie on a shared disk of another machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from harness import store
from harness.report import files, headline, summary, words
from harness.report.html import page
from harness.store import Run

# How often the run is looked at, and how often at most its page is written; one that takes long is written less often.
EVERY_S = 2.0
# The page asks as often for itself.
REFRESH_S = 5.0
# A run whose process cannot be seen from here has ended when nothing has changed for so long.
QUIET_S = 1800.0

Tell = Callable[[str], None]


def watch(
    folder: Path,
    *,
    output: Path | None = None,
    tell: Tell,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Write the page of the run in ``folder`` whenever there is something new; return whether the run has ended itself.

    False says that it was killed, or that nothing was heard of it for half an hour. ``tell`` is called with a line
    each time the page was written, and once at the end. While a case is timed on this machine nothing is written.

    Raises:
        MissingRequirementError: Jinja2 is not installed.
        StoreError: the records cannot be read or the page cannot be written.
    """
    seen, run, changed_s, took_s = None, None, clock(), 0.0
    while True:
        now = _signature(folder)
        over = run is not None and run.info.goes_on is False
        if now != seen or over:
            with files.unless_measured() as free:
                if free:
                    began_s = clock()
                    run = store.read(folder)
                    written = page.write(run, output=output, refresh_s=REFRESH_S)
                    changed_s = clock() if now != seen else changed_s
                    seen, took_s = now, clock() - began_s
                    tell(_told(run, written))
        if run is not None and seen == now and (ending := _ending(run, over, clock() - changed_s)):
            if run.info.goes_on is None:
                page.write(run, output=output)  # which no longer asks for what does not come
            tell(ending)
            return bool(run.info.ended)
        wait(max(EVERY_S, took_s / files.SHARE))


def find(report_dir: str | Path, *, tell: Tell, wait: Callable[[float], None] = time.sleep) -> Path:
    """Return the folder of the newest run in ``report_dir`` that goes on; waits for one to begin."""
    ended: set[str] = set()
    told = False
    while True:
        for folder in store.newest_first(report_dir):
            if folder.name not in ended and _goes_on(folder):
                return folder
            ended.add(folder.name)
        if not told:
            tell(f"no run goes on in {report_dir}: waiting for the next one (Ctrl-C ends this)")
            told = True
        wait(EVERY_S)


def _goes_on(folder: Path) -> bool:
    found = store.read_info(folder)[0].goes_on
    if found is None:
        return any(time.time() - file.stat().st_mtime < QUIET_S for file in _files(folder) if file.exists())
    return found


def _signature(folder: Path) -> tuple[tuple[int, int], ...]:
    """Return what changes when the run's files do."""
    found = [file.stat() for file in _files(folder) if file.exists()]
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in found)


def _files(folder: Path) -> tuple[Path, ...]:
    return folder / store.RECORDS, folder / store.CLAIMS, folder / store.INFO


def _ending(run: Run, seen_over: bool, quiet_s: float) -> str:
    """Return why there is nothing more to wait for; empty while there is."""
    if run.info.ended:
        return f"the run has ended: {headline.answer(summary.summarise(run))}"
    if run.info.goes_on is False and seen_over:
        return "the run was killed: its process is gone, and what it had finished is on the page"
    if run.info.goes_on is None and quiet_s > QUIET_S:
        return f"nothing has changed for {words.seconds(quiet_s)}, and its process cannot be seen from here: given up"
    return ""


def _told(run: Run, written: Path) -> str:
    return f"{time.strftime('%H:%M:%S')}  {summary.tally(summary.summarise(run))}  {written}"
