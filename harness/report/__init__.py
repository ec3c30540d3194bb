"""From records to what people read: one HTML page, Markdown, terminal lines and a comparison of two runs."""

from __future__ import annotations

from pathlib import Path

from harness.report.comparison import Comparison, compare
from harness.report.console import terminal
from harness.report.job_page import markdown

__all__ = ["write", "markdown", "terminal", "compare", "Comparison"]


def write(run_dir: Path) -> Path:
    """Write ``index.html`` for the run in ``run_dir`` and return its path; see ``harness.report.page``."""
    from harness.report import page  # needs Jinja2, which terminal and Markdown do without

    return page.write(run_dir)
