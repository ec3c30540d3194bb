"""Packing a run with what its cases were judged by: one squeezed tar file, the same bytes for the same run.

manifest.json   first: the name, size and sha256 of every file after it
run.json        the machine, the versions and the commit
records.jsonl   every record; claims.jsonl, what studies claim, if any
traces/         what each case was judged by, and tables/, each once
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness import store
from harness.errors import StoreError
from harness.evidence import manifest as manifests
from harness.evidence import squeezing
from harness.evidence.keeping import FOLDER, TABLES
from harness.evidence.manifest import Manifest, Packed, PackedCase, decode_question
from harness.evidence.question import Question, tables_of
from harness.measure import machine
from harness.store import Run

SUFFIX = ".lockstep"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A bundle that was written: its file, what it says of itself, its size and its sha256."""

    file: Path
    manifest: Manifest
    num_bytes: int
    sha256: str


def pack(run: Run, file: Path) -> Bundle:
    """Write the bundle of ``run`` to ``file``, beside it first, so that nobody finds half of it.

    Raises:
        StoreError: a file of the run cannot be read or is not what it was when it was kept, or ``file`` not written.
    """
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        # Of a run that goes on these grow: one moment of them is packed, and it comes before what they speak of.
        own = {name: path.read_bytes() for name in manifests.OF_RUN if (path := run.directory / name).is_file()}
        manifest = manifest_of(run, own)
        with beside.open("wb") as raw, squeezing.writer(raw) as packed:
            _write(packed, run.directory, manifest, own)
        with beside.open("rb") as written:
            sha256 = hashlib.file_digest(written, "sha256").hexdigest()
        num_bytes = beside.stat().st_size
        beside.replace(file)
    except OSError as error:
        raise StoreError(
            f"expected to pack {run.directory} into {file} but {error}; free or allow it, or name another file with -o"
        ) from error
    finally:
        with suppress(OSError):  # the first error is the one to tell
            beside.unlink(missing_ok=True)
    return Bundle(file=file, manifest=manifest, num_bytes=num_bytes, sha256=sha256)


def manifest_of(run: Run, own: Mapping[str, bytes]) -> Manifest:
    """Return what the bundle of ``run`` holds; ``own`` are the contents of its records and of what surrounds them.

    Raises:
        StoreError: a file is damaged, or a table is not what its name says.
    """
    questions = {
        f"{FOLDER}/{path.name}": decode_question(path.read_bytes(), str(path))
        for path in sorted((run.directory / FOLDER).glob("*.json"))
    }
    lacking = {name: lost for name, question in questions.items() if (lost := _lost(run.directory, question))}
    kept = {name: question for name, question in questions.items() if name not in lacking}
    # Tables of one case side by side, as they have the most in common.
    tables = dict.fromkeys(f"{TABLES}/{table}" for question in kept.values() for table in tables_of(question))
    files = [
        *(
            Packed(name=name, num_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
            for name, content in own.items()
        ),
        *(_packed(run.directory, name) for name in (*kept, *tables)),
    ]
    return Manifest(
        lockstep=machine.versions().get("lockstep", ""),
        run=run.info.id,
        commit=str(run.info.environment.get("commit", "")),
        environment=run.info.environment,
        files=tuple(files),
        cases=_cases(run, kept, lacking),
    )


def _lost(folder: Path, question: Question) -> str:
    """Return why a question cannot be asked again; empty where all of its tables are there."""
    absent = [table for table in tables_of(question) if not (folder / TABLES / table).is_file()]
    return f"{len(absent)} of its tables are gone, {absent[0]} first" if absent else ""


def _cases(run: Run, kept: dict[str, Question], lacking: dict[str, str]) -> tuple[PackedCase, ...]:
    """Return every record's case once, and the cases of which there is no record."""
    found: dict[tuple[str, str, str | None], PackedCase] = {}
    for record in run.records:
        key = record.case, record.workload_digest, record.fault
        question = record.traces if record.traces in kept else ""
        if question or key not in found:
            found[key] = PackedCase(
                case=record.case,
                verdict=record.verdict,
                fault=record.fault,
                question=question,
                reason="" if question else lacking.get(record.traces, manifests.reason(record)),
            )
    told = {case.question for case in found.values()}
    others = [
        PackedCase(
            case=question.case.id,
            verdict=question.verdict.conclusion,
            fault=question.fault.name if question.fault else None,
            question=name,
        )
        for name, question in kept.items()
        if name not in told
    ]
    return (*found.values(), *others)


def _packed(folder: Path, name: str) -> Packed:
    path = folder / name
    with path.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    if manifests.is_table(name) and path.stem != sha256:
        raise StoreError(
            f"expected {path} as it was kept but its content has changed; delete it and pack again, which says by name "
            "which cases cannot be judged without it"
        )
    return Packed(name=name, num_bytes=path.stat().st_size, sha256=sha256)


class _Summed:
    """A file to be read, with the sum of what was."""

    def __init__(self, file: IO[bytes]) -> None:
        self.sum = hashlib.sha256()
        self._file = file

    def read(self, num_bytes: int = -1) -> bytes:
        """Return the next bytes."""
        content = self._file.read(num_bytes)
        self.sum.update(content)
        return content


def _write(packed: IO[bytes], folder: Path, manifest: Manifest, own: Mapping[str, bytes]) -> None:
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        told = store.encode(manifest)
        _add(archive, manifests.NAME, len(told), io.BytesIO(told))
        for file in manifest.files:
            if file.name in own:
                _add(archive, file.name, file.num_bytes, io.BytesIO(own[file.name]))
                continue
            with (folder / file.name).open("rb") as opened:
                summed = _Summed(opened)
                _add(archive, file.name, file.num_bytes, summed)
            if summed.sum.hexdigest() != file.sha256:
                raise StoreError(f"expected {folder / file.name} to stay as it is while it is packed; pack again")


def _add(archive: tarfile.TarFile, name: str, num_bytes: int, content: IO[bytes] | _Summed) -> None:
    """Add a file without time, owner or mode of its own, so that the same run gives the same bytes."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = num_bytes, 0o644
    archive.addfile(member, content)
