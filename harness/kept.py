"""Reference traces, computed once a run and shared by its pytest workers."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from harness.errors import TraceError
from harness.record import Trace


class KeptTraces:
    """Traces by key in a folder that all workers of a run share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._memory: dict[str, Trace] = {}

    def get(self, key: str) -> Trace | None:
        """Return the trace under ``key``, or None.

        Raises:
            TraceError: the file holds no trace, half of one, or one of another schema.
        """
        file = self._folder / f"{key}.json"
        if key not in self._memory and file.exists():
            self._memory[key] = _read(file)
        return self._memory.get(key)

    def put(self, key: str, trace: Trace) -> None:
        """Keep a trace, whose arrays must stay where they are."""
        self._folder.mkdir(parents=True, exist_ok=True)
        beside = self._folder / f".{key}.{os.getpid()}"
        beside.write_bytes(msgspec.json.encode(trace))
        beside.replace(self._folder / f"{key}.json")
        self._memory[key] = trace

    def forget_all_but(self, keys: Collection[str]) -> None:
        """Delete what was kept under other keys, arrays and all; only where no other worker may want it."""
        for key in self._memory.keys() - set(keys):
            for rung in self._memory.pop(key).rungs.values():
                Path(rung.file).unlink(missing_ok=True)
            (self._folder / f"{key}.json").unlink(missing_ok=True)

    @contextmanager
    def claimed(self, keys: Iterable[str]) -> Iterator[None]:
        """Compute ``keys`` alone: another worker that wants one of them waits, and then finds it with ``get``."""
        import fcntl  # absent on Windows, where no ranks run either

        self._folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            # In one order for all, so that no two workers wait for each other.
            for key in sorted(set(keys)):
                lock = os.open(self._folder / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                held.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _read(file: Path) -> Trace:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Trace)
    except (msgspec.DecodeError, TraceError) as error:
        raise TraceError(f"expected a trace in {file} but {error}; delete the file and run the case again") from error
