"""Records on disk: one directory a run, one JSON line a record, written as each case ends and kept when a run dies."""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from harness import appending, decoding, processes
from harness.claims import PublishedClaim
from harness.errors import MissingRequirementError, StoreError, UnknownNameError
from harness.record import GRAVITY, SCHEMA, Record
from harness.spec import Case, Value

if TYPE_CHECKING:
    import pandas as pd

RECORDS = "records.jsonl"
CLAIMS = "claims.jsonl"
INFO = "run.json"
# pytest's exit status after Ctrl-C or SIGTERM.
INTERRUPTED = 2
REPORT_DIR = "reports"
_T = TypeVar("_T", bound=Value)
_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
_RUN_ID = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{4}")


class RunInfo(Value, frozen=True, kw_only=True):
    """What is known of a whole run: ``run.json``.

    ``asked`` says in words or options what was asked for, ``environment`` holds the machine and versions. ``ended`` is
    empty while the run goes on, and stays empty when it was killed; ``process`` is the name of the one that writes it
    (``harness.processes``). ``num_planned`` cases were to be run, None where that is unknown. Times are ISO 8601 in
    UTC.
    """

    schema: int = SCHEMA
    id: str
    started: str = ""
    ended: str = ""
    exit_status: int | None = None
    command: str = ""
    asked: str = ""
    environment: dict[str, str | float | int] = {}
    process: str = ""
    num_planned: int | None = None

    @property
    def interrupted(self) -> bool:
        """Whether it was ended by Ctrl-C or SIGTERM."""
        return self.exit_status == INTERRUPTED

    @property
    def goes_on(self) -> bool | None:
        """Whether more records may come; None where that cannot be seen from here."""
        return False if self.ended else processes.lives(self.process)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """All records of one pytest session, as read from disk.

    ``num_damaged`` lines of its journal could not be read; ``losses`` tells in sentences what is missing.
    """

    directory: Path
    info: RunInfo
    records: tuple[Record, ...]
    num_damaged: int = 0
    losses: tuple[str, ...] = ()
    claims: tuple[PublishedClaim, ...] = ()


def utc_now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_run_id() -> str:
    """Return a name for a run, for example ``20261120T101502.345Z-3f9a``; names sort by time."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%S}.{now.microsecond // 1000:03d}Z-{secrets.token_hex(2)}"


def not_verified(
    run: str, case: Case, *, framework: str, reason: str, workload_digest: str = "", command: str = "", test: str = ""
) -> Record:
    """Return the record of a case that was asked for and could not be judged; ``reason`` says why."""
    return Record(
        run=run,
        case=case.id,
        strategy=case.strategy,
        framework=framework,
        workload=case.workload,
        workload_digest=workload_digest,
        world_size=case.world_size,
        device=case.device,
        dtype="",
        reference="",
        verdict="not-verified",
        reason=reason,
        started=utc_now(),
        command=command,
        test=test,
    )


class Journal:
    """The growing records of a run in ``directory`` (``reports/<run>``), which is made when it is absent.

    A record is on disk when ``append`` returns, so a killed run keeps what it finished; an existing run is continued.
    Without ``info`` the run is somebody else's: records are added to it, and what is said of it whole stays as it is.

    Raises:
        StoreError: the directory cannot be made or written; the message says how to choose another.
    """

    def __init__(self, directory: Path, info: RunInfo | None) -> None:
        self.directory = directory
        self.info = info
        with _told(directory):
            directory.mkdir(parents=True, exist_ok=True)
            self._fds = {RECORDS: appending.open_to_append(directory / RECORDS)}
        try:
            self._write_info()
        except StoreError:
            self.close()
            raise

    def append(self, entry: Record | PublishedClaim) -> None:
        """Write a record, or a claim into a file of its own, as one line and wait until it is on disk."""
        name = RECORDS if isinstance(entry, Record) else CLAIMS
        with _told(self.directory):
            if name not in self._fds:
                self._fds[name] = appending.open_to_append(self.directory / name)
            appending.append(self._fds[name], encode(entry))

    def finish(self, exit_status: int) -> None:
        """Write down that the run ended, and close the journal."""
        assert self.info is not None, "whose run it is says when it ends"
        self.info = msgspec.structs.replace(self.info, ended=utc_now(), exit_status=exit_status)
        try:
            self._write_info()
        finally:
            self.close()

    def close(self) -> None:
        """Close the journal without saying that the run ended; closing twice does no harm."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def _write_info(self) -> None:
        if self.info is None:
            return
        with _told(self.directory):
            replace_file(self.directory / INFO, msgspec.json.format(encode(self.info), indent=2) + b"\n")


def replace_file(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write ``content``, or its pieces, beside ``path`` and move it there, so that no reader sees half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            beside.unlink(missing_ok=True)
        raise


def encode(value: object) -> bytes:
    """Return ``value`` as one line of JSON.

    JSON has no NaN and no infinity and UTF-8 no lone surrogates: these become ``"nan"``, ``"inf"`` and escapes.
    """
    # Looking for them in MessagePack, which writes a float as 0xcb and its eight bytes, is ten times as fast as
    # looking at every value. Where other bytes look like one, only time is lost.
    with contextlib.suppress(UnicodeEncodeError, OverflowError):
        if _NOT_FINITE.search(msgspec.msgpack.encode(value)) is None:
            return msgspec.json.encode(value)
    return msgspec.json.encode(_plain(msgspec.to_builtins(value)))


def read(run: str | Path, report_dir: str | Path = REPORT_DIR) -> Run:
    """Return a run: a directory, a run's id in ``report_dir``, or ``"latest"``.

    Damaged lines (a run killed while it wrote), and records that another version of Lockstep wrote among others, are
    left out, counted and told. A last line that is just being written is no loss.

    Raises:
        UnknownNameError: no such run; SchemaError: all of it was written under another schema; StoreError: it cannot be
        read.
    """
    directory = resolve(run, report_dir)
    with _told(directory):
        info, losses = read_info(directory)
        records, num_lost, told = _read_lines(directory / RECORDS, Record, info)
        claims, _, missing = _read_lines(directory / CLAIMS, PublishedClaim, info)
    return Run(
        directory=directory,
        info=info,
        records=tuple(records),
        num_damaged=num_lost,
        losses=losses + told + missing,
        claims=tuple(claims),
    )


def read_info(directory: Path) -> tuple[RunInfo, tuple[str, ...]]:
    """Return what is known of the whole run in ``directory``, and in sentences what of that is lost."""
    path = directory / INFO
    if not path.exists():
        return RunInfo(id=directory.name), (f"{INFO} is missing: what was asked and where it ran is unknown",)
    info = decoding.decode(path.read_bytes(), RunInfo, str(path))
    if info is None:
        return RunInfo(id=directory.name), (f"{INFO} is damaged: what was asked and where it ran is unknown",)
    return info, ()


def resolve(run: str | Path, report_dir: str | Path = REPORT_DIR) -> Path:
    """Return the directory of ``run``: a directory, a file in it, a run's id in ``report_dir``, or ``"latest"``."""
    if run == "latest":
        return latest(report_dir)
    for candidate in (Path(run), Path(report_dir) / run, Path(run).parent):
        if _is_run(candidate):
            return candidate
    raise UnknownNameError("run", str(run), [*_run_ids(report_dir), "latest"])


def latest(report_dir: str | Path = REPORT_DIR) -> Path:
    """Return the directory of the newest run in ``report_dir``; raise UnknownNameError when there is none."""
    ordered = newest_first(report_dir)
    if not ordered:
        raise UnknownNameError(f"run in {Path(report_dir)}", "latest", _run_ids(report_dir))
    return ordered[0]


def newest_first(report_dir: str | Path = REPORT_DIR) -> list[Path]:
    """Return the directories of all runs in ``report_dir`` that are named by their time."""
    return [Path(report_dir) / name for name in sorted(_run_ids(report_dir), reverse=True) if _RUN_ID.fullmatch(name)]


def merge(records: Iterable[Record]) -> list[Record]:
    """Return one record per case, workload digest and fault, in order of first appearance.

    Field by field a later record's say supersedes an earlier one's (a performance record brings timing to a parity
    record). The verdict and its evidence stay together and come from the gravest record, so that a case that was once
    different stays different, and a skipped test never hides a judged one. What another machine trained brings its
    times and machine along or nothing at all.
    """
    merged: dict[tuple[str, str, str | None], Record] = {}
    for record in _with_known_digests(list(records)):
        key = (record.case, record.workload_digest, record.fault)
        merged[key] = _superseded(merged[key], record) if key in merged else record
    return list(merged.values())


def load(run: str | Path | Run, report_dir: str | Path = REPORT_DIR, *, per_case: bool = False) -> pd.DataFrame:
    """Return a run's records as a table: a row a record (or, with ``per_case``, a row a case: see ``merge``).

    Columns are those of a record, nested ones with dots: ``timing.speedup.median``, ``environment.python``,
    ``timing.baselines.whole_machine.speedup.low``. Durations are in seconds.

    Raises:
        MissingRequirementError: pandas is not installed; UnknownNameError, StoreError: see ``read``.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingRequirementError(
            "needs pandas, which is not installed: pip install 'lockstep-harness[report]'"
        ) from error
    columns, rows = table(run if isinstance(run, Run) else read(run, report_dir), per_case=per_case)
    return pd.DataFrame(rows, columns=columns)


def table(run: Run, *, per_case: bool = False) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns and rows of ``load``; a cell that a row has not got is empty."""
    records = merge(run.records) if per_case else run.records
    rows = [_flat(record, Record, "") for record in records]
    return list(dict.fromkeys([*_flat(None, Record, ""), *(name for row in rows for name in row)])), rows


# The verdict and what belongs to it.
_VERDICT_FIELDS = ("verdict", "reason", "evidence", "divergence", "margin", "reference", "dtype", "command", "test")
_EMPTY: tuple[object, ...] = (None, "", {}, 0.0)


def _with_known_digests(records: list[Record]) -> list[Record]:
    """Fill in the digest of a skipped case whose workload is known from others, so that both are one case."""
    known: dict[str, set[str]] = {}
    for record in records:
        known.setdefault(record.workload, set()).update({record.workload_digest} - {""})
    return [
        msgspec.structs.replace(record, workload_digest=min(known[record.workload]))
        if not record.workload_digest and len(known[record.workload]) == 1
        else record
        for record in records
    ]


def _superseded(earlier: Record, later: Record) -> Record:
    graver = later if GRAVITY.index(later.verdict) >= GRAVITY.index(earlier.verdict) else earlier
    if graver.evidence is None and earlier.verdict == later.verdict:
        graver = earlier
    if (earlier.run, earlier.judged_from) != (later.run, later.judged_from):
        return graver  # a time belongs to the machine it was taken on
    fields = {
        name: getattr(later, name) if getattr(later, name) not in _EMPTY else getattr(earlier, name)
        for name in Record.__struct_fields__
    }
    fields |= {name: getattr(graver, name) for name in (*_VERDICT_FIELDS, "logs")}
    fields["resources"] = earlier.resources | later.resources
    fields["features"] = earlier.features | later.features
    fields["environment"] = earlier.environment | later.environment
    fields["started"] = earlier.started or later.started
    fields["duration_s"] = earlier.duration_s + later.duration_s
    return Record(**fields)


def _flat(value: Any, struct: type[msgspec.Struct], prefix: str) -> dict[str, Any]:
    """Return the cells of ``value``, or the empty cells of a ``struct`` that is absent."""
    cells: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        name, content = f"{prefix}{field.name}", getattr(value, field.name, None)
        nested = next((t for t in (field.type, *typing.get_args(field.type)) if _is_struct(t)), None)
        if nested is not None and typing.get_origin(field.type) is not tuple:
            cells |= _flat(content, nested, f"{name}.")
        elif typing.get_origin(field.type) is dict:
            cells |= {f"{name}.{key}": item for key, item in (content or {}).items()}
        else:
            cells[name] = content
    for baseline in cells.pop(f"{prefix}baselines", None) or ():
        cells |= _flat(baseline, type(baseline), f"{prefix}baselines.{baseline.name.replace(' ', '_')}.")
    return cells


def _is_struct(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)


def _is_run(directory: Path) -> bool:
    return (directory / RECORDS).is_file() or (directory / INFO).is_file()


def _run_ids(report_dir: str | Path) -> list[str]:
    folder = Path(report_dir)
    return sorted(path.name for path in folder.iterdir() if _is_run(path)) if folder.is_dir() else []


def _read_lines(path: Path, kind: type[_T], info: RunInfo) -> tuple[list[_T], int, tuple[str, ...]]:
    """Return what a file of lines holds, how many lines are lost, and that in sentences; no file is an empty one."""
    content = path.read_bytes() if path.is_file() else b""
    lines = content.splitlines()
    if lines and not content.endswith(b"\n") and not info.ended and info.process and info.goes_on is not False:
        del lines[-1]
    return decoding.decode_lines(kind, lines, path.name, str(path))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@contextlib.contextmanager
def _told(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"expected to read and write records in {directory} but {error.strerror or error}; "
            "free or allow it, or choose another place with --ls-report-dir DIR"
        ) from error
