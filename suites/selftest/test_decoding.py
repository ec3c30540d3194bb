"""Bad input of reading: whatever a file holds, the rest is shown and the loss told, or it is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.sample_records import RUN, record, write_run
from harness import decoding, processes, store
from harness.errors import SchemaError
from harness.record import Record
from harness.spec import Value
from harness.store import encode, read

GOOD = encode(record())
ELSEWHERE = "machine-of-another/pid:[1]/1/1"


def run_with(folder: Path, journal: bytes) -> store.Run:
    path = write_run(folder / RUN, [])
    (path / store.RECORDS).write_bytes(journal)
    return read(path)


def of_schema(number: int) -> bytes:
    return GOOD.replace(b'"schema":1', b'"schema":%d' % number, 1)


@pytest.mark.parametrize(
    "damage",
    [
        b"x",
        b"\x00",
        bytes(range(1, 256)).replace(b"\n", b"").replace(b"\r", b""),
        b"[" * 100_000,
        b'{"schema":1,"run":' + b"[" * 100_000,
        b'{"schema":1,"reason":"' + b"a" * 20_000_000,
        b'{"schema":' + b"9" * 5_000 + b"}",
        b'{"schema":1e400}',
        b'{"schema":true}',
        b'{"schema":null}',
        b'"schema"',
        GOOD.replace(b'"world_size":2', b'"world_size":"two"'),
        GOOD.replace(b'"verdict":"equivalent"', b'"verdict":"fine"'),
        GOOD[:-1],
        GOOD + GOOD,
    ],
    ids=lambda damage: repr(damage[:20]),
)
def test_one_bad_line_among_good_ones_is_left_out_and_told(tmp_path: Path, damage: bytes) -> None:
    run = run_with(tmp_path, GOOD + b"\n" + damage + b"\n" + GOOD + b"\n")
    assert run.records == (record(), record())
    assert run.losses == ("1 damaged line of records.jsonl (line 2) was left out",)


@pytest.mark.parametrize("nothing", [b"", b"\n", b"  \n\r\n"])
def test_an_empty_journal_is_a_run_without_records_and_no_loss(tmp_path: Path, nothing: bytes) -> None:
    run = run_with(tmp_path, nothing)
    assert (run.records, run.losses) == ((), ())


def test_of_a_key_that_comes_twice_the_last_one_counts_as_for_every_reader_of_json(tmp_path: Path) -> None:
    run = run_with(tmp_path, GOOD[:-1] + b',"reason":"the last word"}\n')
    assert run.records[0].reason == "the last word"


@pytest.mark.parametrize(
    ("number", "told"), [(0, "an older version"), (2, "a newer version"), (-3, "an older version")]
)
def test_a_run_of_another_schema_is_refused_and_says_who_must_be_updated(
    tmp_path: Path, number: int, told: str
) -> None:
    words = f"expected schema 1 but .*records.jsonl:1 has schema {number}; {told} of Lockstep wrote it: "
    with pytest.raises(SchemaError, match=words):
        run_with(tmp_path, of_schema(number) + b"\n" + of_schema(number) + b"\n")


def test_a_record_of_another_schema_among_ours_does_not_hide_them(tmp_path: Path) -> None:
    run = run_with(tmp_path, b"\n".join([GOOD, of_schema(2), of_schema(0), of_schema(2), b"{", b""]))
    assert run.records == (record(),)
    assert run.num_damaged == 4
    newer, older, damaged = run.losses
    assert newer.startswith(
        "2 lines of schema 2 of records.jsonl (lines 2, 4) were left out: a newer version of Lockstep"
    )
    assert older.startswith("1 line of schema 0 of records.jsonl (line 3) was left out: an older version of Lockstep")
    assert damaged == "1 damaged line of records.jsonl (line 5) was left out"


def test_an_older_schema_is_migrated_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(kind: type[Value], plain: dict[str, Any]) -> dict[str, Any]:
        return plain | {"reason": plain.pop("why")} if kind is Record else plain

    def unclear(_kind: type[Value], plain: dict[str, Any]) -> dict[str, Any]:
        return plain | {"why": plain.pop("because", plain.get("why"))}

    monkeypatch.setattr(decoding, "MIGRATIONS", {-1: unclear, 0: renamed})
    of_0 = of_schema(0).replace(b'"reason":', b'"why":', 1)
    oldest = of_schema(-1).replace(b'"reason":', b'"because":', 1)
    run = run_with(tmp_path, b"\n".join([of_0, oldest, GOOD, b""]))
    assert run.records == (record(),) * 3
    assert run.losses == ()
    with pytest.raises(SchemaError, match="schema -2; an older version"):
        run_with(tmp_path / "older", of_schema(-2))


def test_a_migration_that_leaves_nonsense_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MIGRATIONS", {0: lambda _kind, _plain: {}})
    assert run_with(tmp_path, of_schema(0) + b"\n").num_damaged == 1


@pytest.mark.parametrize(
    ("process", "ended", "num_damaged"),
    [(None, False, 0), (ELSEWHERE, False, 0), (ELSEWHERE, True, 1), ("", False, 1), ("gone", False, 1)],
    ids=["this process writes it", "another machine does", "the run has ended", "nobody is named", "it was killed"],
)
def test_a_last_line_that_is_just_being_written_is_no_loss(
    tmp_path: Path, process: str | None, ended: bool, num_damaged: int
) -> None:
    own = processes.name()
    names = {None: own, "gone": own + "1"}
    path = write_run(tmp_path / RUN, [record()], ended=ended, process=names.get(process, process))
    with (path / store.RECORDS).open("ab") as journal:
        journal.write(GOOD[:100])
    run = read(path)
    assert run.records == (record(),)
    assert run.num_damaged == num_damaged
