"""From records to what people read: one HTML page, Markdown, terminal lines and a comparison of two runs."""

from __future__ import annotations

from pathlib import Path

from harness.report import files
from harness.report.compared.comparing import compare
from harness.report.compared.comparison import Comparison
from harness.report.console import terminal
from harness.report.job_page import markdown
from harness.store import Run

__all__ = ["write", "write_comparison", "markdown", "terminal", "compare", "Comparison"]


def write(run: Path | Run, *, output: Path | None = None, refresh_s: float | None = None) -> Path:
    """Write ``index.html`` for a run, in its folder or as ``output``; see ``harness.report.html.page``."""
    from harness.report.html import page  # needs Jinja2, which terminal and Markdown do without

    return page.write(run, output=output, refresh_s=refresh_s)


def write_comparison(path: Path, comparison: Comparison) -> Path:
    """Write a page of runs side by side and return its path."""
    from harness.report.html import page

    return files.write(
        path,
        page.render_comparison(comparison).encode("utf-8", "replace"),
        way_out="name another file with --html FILE",
    )
