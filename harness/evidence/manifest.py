"""What a bundle says of itself: its first file, by which every other one is held."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from harness.errors import StoreError, TraceError
from harness.evidence.keeping import FOLDER, NOT_KEPT, TABLES
from harness.evidence.question import Question, mapped, read_labels, tables_of
from harness.record import Conclusion, Record, Trace
from harness.recorder import read
from harness.report import words
from harness.spec import Value
from harness.store import CLAIMS, INFO, RECORDS

SCHEMA = 1
NAME = "manifest.json"
# The files of a run that a bundle holds as they are.
OF_RUN = (INFO, RECORDS, CLAIMS)
_QUESTION = re.compile(rf"{FOLDER}/[A-Za-z0-9][A-Za-z0-9=+.-]*\.json")
_TABLE = re.compile(rf"{TABLES}/([0-9a-f]{{64}})\.npy")


class Packed(Value, frozen=True, kw_only=True):
    """One file of a bundle."""

    name: str
    num_bytes: int
    sha256: str


class PackedCase(Value, frozen=True, kw_only=True):
    """One case: the file of what it was judged by, or, where that is empty, why it cannot be judged again."""

    case: str
    verdict: Conclusion
    fault: str | None = None
    question: str = ""
    reason: str = ""


class Manifest(Value, frozen=True, kw_only=True):
    """What a bundle holds, where it was made and by which version."""

    schema: int = SCHEMA
    lockstep: str
    run: str
    commit: str
    environment: dict[str, str | float | int]
    files: tuple[Packed, ...]
    cases: tuple[PackedCase, ...]

    @property
    def num_bytes(self) -> int:
        """How much room its files take."""
        return sum(file.num_bytes for file in self.files)


def is_table(name: str) -> bool:
    """Whether a file of a bundle is a table."""
    return _TABLE.fullmatch(name) is not None


def require_name(name: str) -> None:
    """Raise StoreError unless a file has one of the names that bundles have, none of which leaves its folder."""
    if name not in OF_RUN and not _QUESTION.fullmatch(name) and not is_table(name):
        raise StoreError(
            f"expected {', '.join(OF_RUN)}, {FOLDER}/CASE.json or {TABLES}/SHA256.npy but got a file {name!r}; this "
            "is no bundle of `harness bundle`"
        )


def decode_question(content: bytes, where: str) -> Question:
    """Return what a case was judged by.

    Raises:
        StoreError: it is damaged, or another version of Lockstep wrote it.
    """
    try:
        return msgspec.json.decode(content, type=Question, strict=False)
    # Not UTF-8 is a ValueError, nested too deeply a RecursionError.
    except (ValueError, RecursionError, TraceError) as error:
        raise StoreError(
            f"expected what a case was judged by in {where} but {error}; read it with the version of Lockstep that "
            "wrote it, or run the case again"
        ) from error


def placed(question: Question, tables: Path) -> Question:
    """Return the question with the paths of its tables in the folder ``tables``.

    Raises:
        StoreError: it names a table that is none of a bundle's.
        TraceError: a table is absent, or not what the question says it is.
    """
    for name in tables_of(question):
        require_name(f"{TABLES}/{name}")

    def trace(one: Trace) -> Trace:
        rungs = {rung: msgspec.structs.replace(file, file=str(tables / file.file)) for rung, file in one.rungs.items()}
        for file in rungs.values():
            read(file)
        return msgspec.structs.replace(one, rungs=rungs)

    found = mapped(question, trace)
    seeds = tuple(msgspec.structs.replace(seed, labels=str(tables / seed.labels)) for seed in found.seeds)
    for seed in seeds:
        read_labels(Path(seed.labels))
    return msgspec.structs.replace(found, seeds=seeds)


def reason(record: Record) -> str:
    """Return why a record without the traces of its case cannot be judged again."""
    if record.traces.startswith(NOT_KEPT):
        return f"its traces were {record.traces}"
    if record.evidence is None:
        return f"it never came to a verdict: {words.headline(record.reason)}"
    return "its traces were not kept; run it again with --ls-keep-traces"
