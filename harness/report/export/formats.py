"""``harness export``: a run as one file for another program, its kind chosen by the suffix."""

from __future__ import annotations

import argparse
import csv
import io
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import msgspec

from harness import store
from harness.errors import MissingRequirementError, UsageError
from harness.record import Record
from harness.report import files, job_page
from harness.report.export import badge, results
from harness.report.summary import summarise
from harness.store import Run
from harness.timings import Baseline

if TYPE_CHECKING:
    import pyarrow as pa

# A spreadsheet takes a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_SCALARS: dict[object, str] = {float: "float64", int: "int64", bool: "bool", str: "string"}
_BASELINES = "timing.baselines."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``harness export``."""
    parser.description = "The kind is chosen by the suffix: " + ", ".join(f".{kind}" for kind in (*TEXTS, "parquet"))
    parser.add_argument("run_name", nargs="?", default="latest", metavar="RUN", help="a run's folder, its id, 'latest'")
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="where to; '-' is the terminal")
    parser.add_argument("--format", choices=[*TEXTS, "parquet"], help="the kind, where FILE has no suffix (json)")
    parser.add_argument("--schema", action="store_true", help="the JSON Schema of results.json instead of a run")
    parser.add_argument("--ls-report-dir", default=store.REPORT_DIR, metavar="DIR")


def run(parsed: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Export a run, or say it; return the exit status.

    Raises:
        UsageError: no such kind, or one that is no text for the terminal.
        MissingRequirementError: Parquet without pyarrow; StoreError: a file cannot be read or written.
    """
    if parsed.schema:
        say(results.schema_text().rstrip("\n"))
        return 0
    to_terminal = parsed.file == "-"
    kind = parsed.format or _kind(parsed.file)
    if to_terminal and kind not in TEXTS:
        raise UsageError(f"expected a FILE for {kind}, which is no text, but got '-': name a file")
    found = store.read(parsed.run_name, parsed.ls_report_dir)
    pieces = TEXTS[kind](found) if kind in TEXTS else [parquet(found)]
    if to_terminal:
        say(b"".join(pieces).decode().rstrip("\n"))
    else:
        say(str(files.write(Path(parsed.file), pieces, way_out="name another file")))
    return 0


def csv_lines(run: Run) -> Iterator[bytes]:
    """Yield a run as CSV (RFC 4180, UTF-8), a row a case, with the columns of ``harness.load``.

    Lists are JSON. An absent value is empty; NaN and infinity are ``nan``, ``inf`` and ``-inf``. A text that a
    spreadsheet would take for a formula begins with an apostrophe.
    """
    columns, rows = store.table(run, per_case=True)
    yield _csv_line(map(_guarded, columns))
    for row in rows:
        yield _csv_line(_cell(row.get(name)) for name in columns)


def parquet(run: Run) -> bytes:
    """Return a run as Parquet, a row a case, with the columns of ``harness.load``.

    Numbers, flags, texts and lists of them have their types, whatever the run holds; lists of anything else are JSON.

    Raises:
        MissingRequirementError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingRequirementError(
            "needs pyarrow, which is not installed: pip install 'lockstep-harness[parquet]'; CSV needs nothing"
        ) from error
    columns, rows = store.table(run, per_case=True)
    declared, baseline = _types(Record, ""), _types(Baseline, "")
    made = {}
    for name in columns:
        of_baseline = name.removeprefix(_BASELINES).partition(".")[2] if name.startswith(_BASELINES) else ""
        annotation = baseline.get(of_baseline) if of_baseline else declared.get(name)
        made[_text(name)] = _array([row.get(name) for row in rows], annotation)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(made), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


TEXTS: dict[str, Callable[[Run], Iterable[bytes]]] = {
    "json": results.lines,
    "csv": csv_lines,
    "md": lambda run: [job_page.markdown(run).encode()],
    "svg": lambda run: [badge.svg(summarise(run)).encode()],
}


def _kind(name: str) -> str:
    if name == "-":
        return "json"
    kind = Path(name).suffix.removeprefix(".").lower()
    if kind not in TEXTS and kind != "parquet":
        kinds = ", ".join(f".{known}" for known in (*TEXTS, "parquet"))
        raise UsageError(f"expected a file that ends in {kinds} but got {name!r}; name it so, or say --format KIND")
    return kind


def _csv_line(cells: Iterable[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()


def _cell(value: Any) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _guarded(value if isinstance(value, str) else store.encode(value).decode())


def _guarded(text: str) -> str:
    text = _text(text).replace("\0", "\\x00")  # many readers of CSV stop there
    return f"'{text}" if text.startswith(_FORMULA) else text


def _sound(value: Any) -> Any:
    """Return a scalar, or lists of them, with texts that UTF-8 can hold."""
    if isinstance(value, tuple | list):
        return [_sound(item) for item in value]
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _types(struct: type[msgspec.Struct], prefix: str) -> dict[str, Any]:
    """Return the annotation of every column that ``harness.load`` makes of ``struct``."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        name, annotation = f"{prefix}{field.name}", _without_none(field.type)
        if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
            found |= _types(annotation, f"{name}.")
        else:
            found[name] = annotation
    return found


def _without_none(annotation: Any) -> Any:
    others = [part for part in typing.get_args(annotation) if part is not NoneType]
    return others[0] if NoneType in typing.get_args(annotation) and len(others) == 1 else annotation


def _arrow(annotation: Any) -> pa.DataType | None:
    """Return the Arrow type of a scalar or of lists of them, None for anything else."""
    import pyarrow as pa

    annotation = _without_none(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return pa.string()
    if typing.get_origin(annotation) is tuple:
        parts = {_arrow(part) for part in typing.get_args(annotation) if part is not Ellipsis}
        inner = parts.pop() if len(parts) == 1 else None
        return None if inner is None else pa.list_(inner)
    return pa.type_for_alias(_SCALARS[annotation]) if annotation in _SCALARS else None


def _array(values: Sequence[Any], annotation: Any) -> pa.Array:
    """Return a column; one that no type declares is of numbers where all its values are, else of texts."""
    import pyarrow as pa

    held = [value for value in values if value is not None]
    if annotation is None:
        numbers = held and all(isinstance(value, int | float) and not isinstance(value, bool) for value in held)
        annotation = (int if all(isinstance(value, int) for value in held) else float) if numbers else str
    kind = _arrow(annotation)
    if kind is None or kind == pa.string():
        return pa.array([None if value is None else _written(value) for value in values], pa.string())
    try:
        return pa.array([_sound(value) for value in values], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # an integer of more than 64 bits
        return pa.array([None if value is None else _written(value) for value in values], pa.string())


def _written(value: Any) -> str:
    return _text(value) if isinstance(value, str) else store.encode(value).decode()
