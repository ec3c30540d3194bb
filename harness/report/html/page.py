"""The HTML page of a run: one file that needs no network and no other file."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import MissingRequirementError
from harness.report import files, headline, words
from harness.report import summary as summaries
from harness.report.compared import changes
from harness.report.compared.comparison import Comparison
from harness.report.export import badge, results
from harness.report.html import payload
from harness.report.sections import cases, fault_matrix, findings, known, scaling, studies, times, verdicts
from harness.report.summary import Summary
from harness.store import Run, read

if TYPE_CHECKING:
    import jinja2

_HERE = Path(__file__).parent
# Observable Plot draws on D3; both are inlined as they were released (vendor/README.md).
_LIBRARIES = ("vendor/d3.min.js", "vendor/plot.umd.min.js")


def write(run: Path | Run, *, output: Path | None = None, refresh_s: float | None = None) -> Path:
    """Write ``index.html`` into a run's folder, with it ``results.json`` and ``badge.svg``; return its path.

    Instead of these, the page alone goes to ``output``. With ``refresh_s`` a page of a run that goes on loads itself
    again after so many seconds.

    Raises:
        MissingRequirementError: Jinja2 is not installed.
        StoreError: the records cannot be read or the page cannot be written.
    """
    found = run if isinstance(run, Run) else read(run)
    if output is None:
        # First what needs no Jinja2; it is for other programs and as current as the page.
        results.write(found)
        badge.write(found)
    page = output or found.directory / "index.html"
    content = render(found, refresh_s=refresh_s).encode("utf-8", "replace")
    if output is not None:
        return files.write(page, content, way_out="name another file with --output FILE")
    return files.write(page, content)


def render(run: Run, *, refresh_s: float | None = None) -> str:
    """Return the page of ``run``."""
    summary = summaries.summarise(run)
    records = payload.ordered((*summary.cases, *summary.faults))
    lines = {id(record): number for number, record in enumerate(records)}
    blobs, num_detailed = payload.details(records, run.info.environment)
    blobs["index"] = payload.pack(
        {
            "chunk": payload.CHUNK,
            "detailed": num_detailed,
            "refresh_s": None if run.info.goes_on is False else refresh_s,
            "lines": [cases.line(record) for record in records],
            **_matrix(summary, lines),
        }
    )
    sections = _sections(run, summary, lines)
    blobs["sections"] = payload.pack(sections)
    return _shell(
        "run.html.j2",
        blobs,
        run=run,
        summary=summary,
        summaries=summaries,
        headline=headline,
        sections=sections,
        told_first=changes.told_first(sections["changes"]),
        num_left_out=len(records) - num_detailed,
        notes={"scaling": scaling.NOTE, "oracle": known.NOTE},
        facts=[words.fact(name, value) for name, value in run.info.environment.items()],
    )


def _matrix(summary: Summary, lines: dict[int, int]) -> dict[str, Any]:
    """Return strategies by workloads, a cell holding the number of its case in the list."""
    columns, rows = verdicts.matrix(summary.cases)
    found = []
    for (strategy, ranks, device), row in rows.items():
        told = words.count(ranks, f"{device.upper()} rank")
        found.append([strategy, told, [lines[id(row[name])] if name in row else None for name in columns]])
    return {"columns": columns, "matrix": found}


def _sections(run: Run, summary: Summary, lines: dict[int, int]) -> dict[str, Any]:
    """Return what the sections below the matrix show; what is empty has none."""
    groups = times.groups(summary, lines)
    known_differences = findings.findings(summary.cases, lines)
    oracle = known.read() if summary.cases else None
    return {
        "times": groups,
        "baselines": times.baselines(groups),
        "scaling": scaling.views(summary),
        "changes": changes.since(run, run.directory.parent),
        "studies": studies.studies(run.claims),
        "studies_told": studies.sentence(run.claims),
        "findings": known_differences,
        "findings_told": findings.sentence(known_differences),
        "faults": fault_matrix.matrix(summary.faults, lines),
        "oracle": {"curves": oracle.curves, "rocs": [known.roc(curve) for curve in oracle.curves]} if oracle else None,
        "oracle_told": known.sentences(oracle) if oracle else [],
    }


def render_comparison(comparison: Comparison) -> str:
    """Return the page of two or more runs side by side."""
    return _shell("comparison.html.j2", {"comparison": payload.pack(comparison)}, comparison=comparison)


def _shell(template: str, blobs: dict[str, str], **content: Any) -> str:
    scripts = [*((_HERE / name).read_text(encoding="utf-8") for name in _LIBRARIES), _script()]
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    page = _environment().get_template(template)
    return page.render(**content, words=words, blobs=blobs, scripts=scripts, hashes=hashes)


def _script() -> str:
    """Return the page's own script: all files of script/ in one scope, which a module keeps to itself.

    What begins to run, main.js, comes when all the others are there.
    """
    parts = sorted((_HERE / "script").glob("*.js"), key=lambda path: (path.name == "main.js", path.name))
    return "\n".join(path.read_text(encoding="utf-8") for path in parts)


def _environment() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError as error:
        raise MissingRequirementError(
            "needs jinja2, which is not installed: pip install 'lockstep-harness[report]'; "
            "records.jsonl is complete, and `harness report RUN` writes the page later"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates", encoding="utf-8"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # A name from elsewhere must not turn a sentence around; markup is the page's own.
        finalize=lambda found: words.visible(found) if type(found) is str else found,
    )
    environment.filters["together"] = words.together
    return environment
