"""The HTML page of a run: one file that needs no network and no other file."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import MissingRequirementError, StoreError
from harness.report import cases, known, payload, scaling, times, words
from harness.report import summary as summaries
from harness.store import Run, read, replace_file

if TYPE_CHECKING:
    import jinja2

_HERE = Path(__file__).parent
# Observable Plot draws on D3; both are inlined as they were released (vendor/README.md).
_LIBRARIES = ("vendor/d3.min.js", "vendor/plot.umd.min.js")


def write(run_dir: Path, *, refresh_s: float | None = None) -> Path:
    """Write ``index.html`` into ``run_dir`` from the records there, and return its path.

    With ``refresh_s`` a page of a run that goes on loads itself again after so many seconds.

    Raises:
        MissingRequirementError: Jinja2 is not installed.
        StoreError: the records cannot be read or the page cannot be written.
    """
    path = Path(run_dir) / "index.html"
    content = render(read(run_dir), refresh_s=refresh_s).encode("utf-8", "replace")
    try:
        replace_file(path, content)
    except OSError as error:
        raise StoreError(
            f"expected to write {path} but {error.strerror or error}; free or allow it, or choose another place "
            "with --ls-report-dir DIR"
        ) from error
    return path


def render(run: Run, *, refresh_s: float | None = None) -> str:
    """Return the page of ``run``."""
    summary = summaries.summarise(run)
    records = payload.ordered((*summary.cases, *summary.faults))
    blobs, num_detailed = payload.details(records, run.info.environment)
    lines = {id(record): number for number, record in enumerate(records)}
    columns, rows = summaries.matrix(summary.cases)
    blobs["index"] = payload.pack(
        {
            "chunk": payload.CHUNK,
            "detailed": num_detailed,
            "refresh_s": None if run.info.ended else refresh_s,
            "lines": [cases.line(record) for record in records],
            "columns": columns,
            "matrix": [
                [strategy, words.count(ranks, f"{device.upper()} rank"), [found.get(name) for name in columns]]
                for (strategy, ranks, device), row in rows.items()
                for found in [{name: lines[id(case)] for name, case in row.items()}]
            ],
        }
    )
    groups = times.groups(summary, lines)
    curves = scaling.views(summary)
    oracle = known.read()
    blobs["sections"] = payload.pack({"times": groups, "baselines": times.baselines(groups), "scaling": curves})
    return _shell(
        "run.html.j2",
        blobs,
        run=run,
        summary=summary,
        summaries=summaries,
        has_matrix=bool(rows),
        groups=groups,
        curves=curves,
        scaling=scaling,
        num_left_out=len(records) - num_detailed,
        oracle=oracle,
        known=known,
        facts=[words.fact(name, value) for name, value in run.info.environment.items()],
    )


def _shell(template: str, blobs: dict[str, str], **content: Any) -> str:
    scripts = [*((_HERE / name).read_text() for name in _LIBRARIES), _script()]
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    page = _environment().get_template(template)
    return page.render(**content, words=words, blobs=blobs, scripts=scripts, hashes=hashes)


def _script() -> str:
    """Return the page's own script: all files of script/ in one scope, which a module keeps to itself."""
    return "\n".join(path.read_text() for path in sorted((_HERE / "script").glob("*.js")))


def _environment() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError as error:
        raise MissingRequirementError(
            "needs jinja2, which is not installed: pip install 'lockstep-harness[report]'; "
            "records.jsonl is complete, and `harness report RUN` writes the page later"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["together"] = words.together
    return environment
