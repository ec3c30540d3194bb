"""``harness compare``: what differs between runs, or strategies of a run: machine first, then verdicts and speed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from harness import history, options, report, store
from harness.report.compared import comparison_lines, sides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give ``harness compare`` its options."""
    parser.description = (
        "Each side is held against the first. A side is a run's folder, its id or 'latest', or RUN:STRATEGY for the "
        "cases of one strategy: two different strategies are compared as two programs, like with like otherwise."
    )
    parser.add_argument("first", metavar="RUN[:STRATEGY]")
    parser.add_argument("more", metavar="RUN[:STRATEGY]", nargs="+")
    parser.add_argument("--ls-report-dir", default=store.REPORT_DIR, metavar="DIR")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page, too")
    parser.add_argument(
        "--fail-slower",
        type=options.share,
        metavar="PERCENT",
        help="exit 1 if a case got slower by more, or cannot be compared",
    )
    parser.add_argument(
        "--allow", action="append", default=[], choices=history.KINDS, help="a difference that does not matter"
    )


def run(parsed: argparse.Namespace, say: Callable[..., None]) -> int:
    """Compare and print; return 1 where ``--fail-slower`` was asked for and does not hold, else 0.

    Raises:
        UsageError: no such run or strategy; StoreError: a run cannot be read, or the page cannot be written.
    """
    chosen = [sides.select(name, parsed.ls_report_dir) for name in (parsed.first, *parsed.more)]
    hidden = {side.run.directory.name for side in chosen}
    others = history.others(Path(parsed.ls_report_dir), hidden)
    floor = parsed.fail_slower or history.FLOOR
    found = report.compare(*chosen, others=others, floor=floor, allow=parsed.allow)
    amiss = comparison_lines.failures(found) if parsed.fail_slower is not None else []
    say(*comparison_lines.lines(found))
    if parsed.html is not None:
        say("", str(report.write_comparison(parsed.html, found)))
    say(*(["", f"--fail-slower {100 * floor:g}%", *("  " + line for line in amiss)] if amiss else []))
    return int(bool(amiss))
