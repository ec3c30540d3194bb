"""Reference traces that the workers of a run share."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from harness.errors import TraceError
from harness.kept import KeptTraces
from harness.record import Trace


def test_what_one_worker_keeps_another_one_finds(tmp_path: Path) -> None:
    ours, theirs = KeptTraces(tmp_path / "kept"), KeptTraces(tmp_path / "kept")
    assert ours.get("key") is None
    ours.put("key", Trace(rank=0, notes=("kept",)))
    assert theirs.get("key") == ours.get("key") == Trace(rank=0, notes=("kept",))
    assert theirs.get("another") is None


def test_a_reference_that_two_workers_want_at_once_is_computed_by_one(tmp_path: Path) -> None:
    computed: list[str] = []
    both_want = threading.Barrier(2)

    def worker(name: str, keys: tuple[str, ...]) -> None:
        kept = KeptTraces(tmp_path)
        both_want.wait()
        # Asked for in another order, the two would wait for each other for ever.
        with kept.claimed(keys):
            for key in keys:
                if kept.get(key) is None:
                    computed.append(key)
                    kept.put(key, Trace(rank=0, notes=(name,)))

    workers = [
        threading.Thread(target=worker, args=("one", ("a", "b", "c")), daemon=True),
        threading.Thread(target=worker, args=("two", ("c", "b", "a")), daemon=True),
    ]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert sorted(computed) == ["a", "b", "c"]


def test_a_claim_ends_with_its_block(tmp_path: Path) -> None:
    kept = KeptTraces(tmp_path)
    for _ in range(2):
        with kept.claimed(["a", "a"]):
            pass


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"rank": 0, "run', "Input data was truncated"),
        ('{"schema": 2, "rank": 0}', "expected a trace of schema 1 but got 2: another version of Lockstep wrote it"),
        ('{"rank": 0, "colour": "red"}', "unknown field `colour`"),
    ],
)
def test_a_file_that_holds_no_trace_of_this_schema_is_named_with_the_way_out(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "key.json").write_text(text)
    with pytest.raises(TraceError, match=f"expected a trace in {tmp_path}/key.json but .*{words}.*delete the file"):
        KeptTraces(tmp_path).get("key")
