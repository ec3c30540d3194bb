"""Reference traces, computed once a session and shared by its pytest workers."""

from __future__ import annotations

from pathlib import Path

import msgspec

from harness.record import Trace


class KeptTraces:
    """Traces by key in a folder; two workers that compute the same one at once both keep a whole one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._memory: dict[str, Trace] = {}

    def get(self, key: str) -> Trace | None:
        """Return the trace under ``key``, or None."""
        file = self._file(key)
        if key not in self._memory and file.exists():
            self._memory[key] = msgspec.json.decode(file.read_bytes(), type=Trace)
        return self._memory.get(key)

    def put(self, key: str, trace: Trace) -> None:
        """Keep a trace, whose arrays must stay where they are."""
        self._memory[key] = trace
        file = self._file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(f".{id(trace)}")
        beside.write_bytes(msgspec.json.encode(trace))
        beside.replace(file)

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.json"
