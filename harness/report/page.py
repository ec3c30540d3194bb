"""The HTML page of a run: one file that needs no network and no other file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import MissingRequirementError, StoreError
from harness.record import Record
from harness.report import known, scaling, views, words
from harness.report import summary as summaries
from harness.report.summary import Summary
from harness.store import Run, read, replace_file

if TYPE_CHECKING:
    import jinja2

_MAX_OPEN = 3  # a page that opens with more cases unfolded hides its own overview


def write(run_dir: Path) -> Path:
    """Write ``index.html`` into ``run_dir`` from the records there, and return its path.

    Raises:
        MissingRequirementError: Jinja2 is not installed.
        StoreError: the records cannot be read or the page cannot be written.
    """
    path = Path(run_dir) / "index.html"
    content = render(read(run_dir)).encode("utf-8", "replace")
    try:
        replace_file(path, content)
    except OSError as error:
        raise StoreError(
            f"expected to write {path} but {error.strerror or error}; free or allow it, or choose another place "
            "with --ls-report-dir DIR"
        ) from error
    return path


def render(run: Run) -> str:
    """Return the page of ``run``."""
    summary = summaries.summarise(run)
    columns, rows = summaries.matrix(summary.cases)
    told = [case for case in (*summary.cases, *summary.faults) if _worth_telling(case)]
    return (
        _environment()
        .get_template("index.html.j2")
        .render(
            run=run,
            summary=summary,
            summaries=summaries,
            columns=columns,
            rows=rows,
            groups=views.groups(summary),
            curves=scaling.views(summary),
            scaling=scaling,
            details=[views.detail(case, summary) for case in told if case.fault is None],
            faults=[views.detail(case, summary) for case in told if case.fault is not None],
            anchors=_anchors(told),
            opened=_opened(summary),
            oracle=known.read(),
            known=known,
            facts=[words.fact(name, value) for name, value in run.info.environment.items()],
        )
    )


def _worth_telling(case: Record) -> bool:
    """Whether there is more to say of a case than one line in the list of what was not verified."""
    return bool(case.evidence or case.timing) or case.verdict != "not-verified" or bool(words.evidence(case.reason))


def _key(case: Record) -> tuple[str, str, str | None]:
    return case.case, case.workload_digest, case.fault


def _anchors(told: Sequence[Record]) -> dict[tuple[str, str, str | None], str]:
    """Return where each case is told; numbered, since a case's name may hold anything."""
    return {_key(case): f"case-{number}" for number, case in enumerate(told, 1)}


def _opened(summary: Summary) -> list[tuple[str, str, str | None]]:
    different = [case for case in summary.cases if case.verdict == "different"]
    return [_key(case) for case in different[:_MAX_OPEN]]


def _environment() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError as error:
        raise MissingRequirementError(
            "needs jinja2, which is not installed: pip install 'lockstep-harness[report]'; "
            "records.jsonl is complete, and `harness report RUN` writes the page later"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(words=words, key=_key, manner=scaling.manner, share=scaling.share)
    environment.filters["together"] = words.together
    return environment
