"""Keeping what cases were judged by: in a run's folder ``traces``, every table once, named by its content."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from harness.datasets.base import Labels
from harness.evidence.question import Judged, Question, Repeat, Seed, Training, mapped
from harness.record import Trace, Verdict
from harness.spec import Case, Fault, Leg, Value, Workload, digest
from harness.store import encode, replace_file

FOLDER = "traces"
TABLES = f"{FOLDER}/tables"
NOT_KEPT = "not kept: "
# What a file's name takes of a case's: any file system takes it.
_STRANGE = re.compile(r"[^A-Za-z0-9=+.]+")
_MOST_LETTERS = 80


@dataclass(kw_only=True, slots=True)
class _Taken:
    """What was taken down of a case so far, the tables that were written for it, and why it is lost, if it is."""

    legs: list[Judged] = field(default_factory=list)
    trainings: list[Training] = field(default_factory=list)
    seeds: list[Seed] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    lost: str = ""


class Notes:
    """Takes down what a case is judged by while it is; nothing where no folder is named, and outside of ``case``.

    Several processes may write to one folder. Where no more fits, or nothing may be written, the case goes on: its
    record says why its traces were not kept, and what was written for it makes room again.
    """

    def __init__(self, run: Path | None) -> None:
        self._run = run
        self._told: dict[str, str] = {}
        # References serve many cases: what a file holds is found out once.
        self._known: dict[tuple[str, int, int], str] = {}
        self._taken: _Taken | None = None

    def told(self, case: Case, workload: Workload, fuzz: int | None = None, fault: Fault | None = None) -> str:
        """Return what the record of a case says of its traces; nothing where none were to be kept."""
        return self._told.get(name_of(case, workload, fault, fuzz), "")

    @contextmanager
    def case(self) -> Iterator[None]:
        """Take down what is judged in the block, up to ``end``."""
        self._taken = None if self._run is None else _Taken()
        try:
            yield
        finally:
            self._taken = None

    def leg(self, asked: Judged) -> None:
        """Keep the tables of a leg."""
        if self._taken is not None:
            leg = asked.leg and _without_folders(asked.leg)
            self._taken.legs.append(msgspec.structs.replace(mapped(asked, self._trace), leg=leg))

    def repeat(self, first: Trace, again: Trace, who: str) -> None:
        """Keep the last leg's run that was trained once more."""
        if self._taken is not None:
            repeat = mapped(Repeat(first=first, again=again, who=who), self._trace)
            last = self._taken.legs.pop()
            self._taken.legs.append(msgspec.structs.replace(last, repeats=(*last.repeats, repeat)))

    def training(self, words: str = "") -> None:
        """Take down that the legs so far were one training."""
        if self._taken is not None:
            self._taken.trainings.append(Training(legs=tuple(self._taken.legs), words=words))
            self._taken.legs.clear()

    def seed(self, seed: Seed, labels: Labels) -> None:
        """Keep the tables of a pair of trainings, and the labels of the held-out samples."""
        if self._taken is not None:
            kept = msgspec.structs.replace(mapped(seed, self._trace), labels=self._array(labels))
            self._taken.seeds.append(kept)

    def end(self, case: Case, workload: Workload, fault: Fault | None, fuzz: int | None, verdict: Verdict) -> None:
        """Write down the question with its answer."""
        taken = self._taken
        if taken is None:
            return
        question = Question(
            case=case,
            workload=workload,
            fault=fault,
            fuzz=fuzz,
            trainings=tuple(taken.trainings),
            seeds=tuple(taken.seeds),
            verdict=verdict,
        )
        name = name_of(case, workload, fault, fuzz)
        if not question.trainings and not question.seeds:
            taken.lost = "it was judged without a training"
        with self._careful() as wanted:
            if wanted:
                replace_file(self._folder(FOLDER) / f"{name}.json", encode(question))
        self._told[name] = f"{NOT_KEPT}{taken.lost}" if taken.lost else f"{FOLDER}/{name}.json"

    def _trace(self, trace: Trace) -> Trace:
        """Return as much of a trace as is judged, its tables kept."""
        rungs = {
            rung: msgspec.structs.replace(file, file=self._table(Path(file.file))) for rung, file in trace.rungs.items()
        }
        return Trace(rank=trace.rank, rungs=rungs, not_shown=trace.not_shown)

    def _table(self, file: Path) -> str:
        """Return the name under which a table is kept."""
        with self._careful() as wanted:
            if wanted:
                facts = file.stat()
                key = str(file), facts.st_ino, facts.st_mtime_ns
                if key not in self._known:
                    with file.open("rb") as opened:
                        self._known[key] = hashlib.file_digest(opened, "sha256").hexdigest()
                self._keep(f"{self._known[key]}.npy", lambda kept: _copy(file, kept))
                return f"{self._known[key]}.npy"
        return ""

    def _array(self, array: Labels) -> str:
        """Return the name under which an array is kept."""
        written = io.BytesIO()
        np.save(written, array, allow_pickle=False)
        content = written.getvalue()
        name = f"{hashlib.sha256(content).hexdigest()}.npy"
        with self._careful() as wanted:
            if wanted:
                self._keep(name, lambda kept: replace_file(kept, content))
        return name

    def _keep(self, name: str, write: Callable[[Path], None]) -> None:
        """Write a table that is not there yet."""
        assert self._taken is not None, "tables belong to a case"
        kept = self._folder(TABLES) / name
        if not kept.exists():
            self._taken.written.append(kept)
            write(kept)

    def _folder(self, name: str) -> Path:
        assert self._run is not None, "nothing is kept without a folder"
        folder = self._run / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def _careful(self) -> Iterator[bool]:
        """Yield whether the case is to be kept still; where writing is refused, remember why and make room again."""
        taken = self._taken
        assert taken is not None, "nothing is kept outside of a case"
        try:
            yield not taken.lost
        except OSError as error:
            taken.lost = str(error.strerror or error)
            for table in taken.written:
                with suppress(OSError):
                    table.unlink(missing_ok=True)


def name_of(case: Case, workload: Workload, fault: Fault | None, fuzz: int | None) -> str:
    """Return the name of a question's file: the case for people, and a digest of all that makes it another one."""
    told = _STRANGE.sub("-", "-".join([case.id, *([fault.name] if fault else [])])).lstrip("-+=.")
    return f"{told[:_MOST_LETTERS]}-{digest(_Key(case=case, workload=workload.digest, fault=fault, fuzz=fuzz))}"


class _Key(Value, frozen=True, kw_only=True):
    case: Case
    workload: str
    fault: Fault | None
    fuzz: int | None


def _without_folders(leg: Leg) -> Leg:
    """Return a leg that says that there was a checkpoint, not where."""
    return msgspec.structs.replace(leg, load=leg.load and "checkpoint", save=leg.save and "checkpoint")


def _copy(file: Path, kept: Path) -> None:
    """Link a table, or copy it where it lies on another file system; nobody sees half of it."""
    with suppress(OSError):
        os.link(file, kept)
        return
    beside = kept.with_name(f".{kept.name}.{os.getpid()}")
    try:
        shutil.copyfile(file, beside)
        beside.replace(kept)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
