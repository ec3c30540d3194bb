"""What changed in a run since earlier ones of the same folder: the run before it, yesterday's and last week's."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from harness import store
from harness.errors import HarnessError
from harness.record import Record
from harness.report.compared import change_words, light
from harness.report.compared.comparing import compare
from harness.report.compared.comparison import Comparison
from harness.report.compared.sides import chosen
from harness.store import Run

_TIME = re.compile(r"(\d{8}T\d{6})\.(\d{3})Z-[0-9a-f]{4}")
# Back from a run, a baseline is the latest that is at least so old: its name, and its age. What is asked most comes
# first: of very large runs not all can be read.
HORIZONS = (
    ("the run before", timedelta(0)),
    ("last week", timedelta(days=7)),
    ("yesterday", timedelta(days=1)),
)
# A page must not take long: how many runs are looked at, how many bytes are read and cases judged in all of them, how
# many runs tell how runs differ, and how many verdicts and refusals are listed.
_MOST_RUNS = 60
_MOST_BYTES = 128_000_000
_MOST_JUDGED = 8
_MOST_BESIDE = 4
_MOST_LISTED = 200


def since(run: Run, report_dir: str | Path) -> tuple[Comparison, ...]:
    """Return ``run`` against earlier runs in ``report_dir`` that share a case with it, each baseline once.

    A difference of versions may be why something changed: it is told and does not hinder comparing. Only the cases that
    moved most are judged; ``harness compare`` judges all. What cannot be read tells nothing.
    """
    own = _time(run)
    if own is None:
        return ()
    reader, now = _Reader(run, own, Path(report_dir)), chosen(run)
    baselines: dict[Path, tuple[str, Run]] = {}  # by folder, whose name sorts by time
    for name, age in HORIZONS:
        baseline = next(reader.shared(own - age), None)
        if baseline is not None:
            baselines.setdefault(baseline.directory, (name, baseline))
    if not baselines:
        return ()
    nearest = list(itertools.islice(reader.shared(own), _MOST_BESIDE + 1))
    found = []
    whole = bool(run.info.ended)
    for _, (name, baseline) in sorted(baselines.items(), key=lambda item: item[0], reverse=True):
        beside = [other for other in nearest if other is not baseline][:_MOST_BESIDE]
        label = f"since {name} ({baseline.info.id}, {_ago(baseline, own)})"
        older = _older(reader, run, baseline, own)
        with contextlib.suppress(HarnessError):  # no scipy: nothing can be said of times
            comparison = compare(
                baseline,
                now,
                others=beside,
                allow=("versions",),
                most=_MOST_JUDGED,
                label=label,
                older=older,
                whole=whole,
            )
            found.append(_cut(comparison))
    return tuple(found)


def told_first(found: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Return what a reader is told at once: what changed since the nearest baseline, and since when it is graver."""
    gravest = min(found, key=change_words.gravity, default=None)
    if gravest is None or change_words.gravity(gravest) >= change_words.gravity(found[0]):
        return tuple(found[:1])
    return found[0], gravest


def _older(reader: _Reader, run: Run, baseline: Run, own: datetime) -> dict[str, tuple[Record, str]]:
    """Return what cases that a baseline lacks came to when they were last run before it, with when that was."""
    there = {record.case for record in baseline.records}
    missing = {record.case for record in run.records if record.fault is None} - there
    found: dict[str, tuple[Record, str]] = {}
    time = _named(baseline.directory.name)
    assert time is not None
    for earlier in reader.shared(time):
        if not missing:
            break
        for record in store.merge(record for record in earlier.records if record.case in missing):
            found[record.case] = (record, _ago(earlier, own))
            missing.discard(record.case)
    return found


def _cut(comparison: Comparison) -> Comparison:
    """Return a comparison that lists no more than a page should hold; counts and headline are of all."""
    return msgspec.structs.replace(
        comparison, verdicts=comparison.verdicts[:_MOST_LISTED], refused=comparison.refused[:_MOST_LISTED]
    )


class _Reader:
    """Earlier runs, newest first, read as they are needed and no more than may be."""

    def __init__(self, run: Run, own: datetime, report_dir: Path) -> None:
        self._cases = {record.case for record in run.records if record.fault is None}
        self._folders = [
            (time, path)
            for path in store.newest_first(report_dir)
            if (time := _named(path.name)) is not None and time < own and path.resolve() != run.directory.resolve()
        ]
        self._read: dict[Path, Run | None] = {}
        self._bytes_left = _MOST_BYTES

    def shared(self, until: datetime) -> Iterator[Run]:
        """Yield the runs up to a time that share a case, newest first, as far as they may be read."""
        for time, path in self._folders:
            if time > until:
                continue
            if path not in self._read:
                if len(self._read) >= _MOST_RUNS:
                    return
                self._read[path] = self._look(path)
            run = self._read[path]
            if run is not None:
                yield run

    def _look(self, path: Path) -> Run | None:
        with contextlib.suppress(HarnessError, OSError):  # damaged, of another schema, or gone by now
            size = light.size(path)
            if size > self._bytes_left:
                return None
            self._bytes_left -= size
            run = light.read(path)
            return run if any(record.case in self._cases for record in run.records) else None
        return None


def _time(run: Run) -> datetime | None:
    """Return when a run began: its folder's name says so, or its information."""
    for name in (run.directory.name, run.info.id):
        time = _named(name)
        if time is not None:
            return time
    try:
        return datetime.fromisoformat(run.info.started).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _named(name: str) -> datetime | None:
    found = _TIME.fullmatch(name)
    if found is None:
        return None
    try:
        return datetime.strptime(f"{found[1]}.{found[2]}000+0000", "%Y%m%dT%H%M%S.%f%z")
    except ValueError:
        return None


def _ago(baseline: Run, own: datetime) -> str:
    time = _named(baseline.directory.name)
    assert time is not None
    return change_words.earlier((own - time).total_seconds())
