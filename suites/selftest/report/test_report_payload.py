"""What is packed into a page: the gravest first, as much as fits, and the same when it is taken out."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.sample_records import CRASH, RUN, hostile, record, sample, skipped, timing, write_run
from harness.record import Record
from harness.report import words, write
from harness.report.html import payload
from harness.report.sections import cases
from harness.store import read

TEXTS = st.text().map(words.visible)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def packed(name: str, content: Any) -> str:
    return f'<p>x</p>\n<script type="application/gzip" id="blob-{name}">{payload.pack(content)}</script>\n'


@given(VALUES, VALUES)
def test_what_is_packed_comes_out_again(one: Any, other: Any) -> None:
    assert payload.unpack(packed("index", one) + packed("cases-12", other)) == {"index": one, "cases-12": other}


def test_marks_that_turn_a_sentence_around_are_not_packed() -> None:
    (found,) = payload.unpack(packed("index", ["ddp\u202e x78.1\u2066", "größer\n"])).values()
    assert found == ["ddp? x78.1?", "größer\n"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_becomes_null(value: float) -> None:
    assert payload.unpack(packed("x", {"a": [value, 1.5]})) == {"x": {"a": [None, 1.5]}}


def test_what_is_packed_is_json_that_every_browser_reads(tmp_path: Path) -> None:
    def refuse(token: str) -> None:
        raise AssertionError(token)

    page = write(write_run(tmp_path / RUN, hostile())).read_text()
    blobs = payload._BLOB.findall(page)
    assert {name for name, _ in blobs} == {"index", "sections", "cases-0"}
    for _, content in blobs:
        json.loads(gzip.decompress(base64.b64decode(content, validate=True)), parse_constant=refuse)


def test_packing_the_same_twice_gives_the_same_bytes() -> None:
    assert payload.pack([1, "a"]) == payload.pack([1, "a"])


def test_the_gravest_cases_come_first_timed_ones_before_others_and_injected_faults_last() -> None:
    failed = record("c-failed", conclusion="not-verified", failed=True)
    wanted = [
        failed,
        record("b-different", conclusion="different"),
        record("a-known", conclusion="different", finding="ddp-weights"),
        record("b-inconclusive", conclusion="inconclusive"),
        record("z-timed", timing=timing(1.2)),
        record("a-equal"),
        record("b-equal", world_size=2),
        record("b-equal", world_size=4),
        skipped("a-skipped", "digits-mlp", 2, "no GPU"),
        record("a-fault", conclusion="different", fault="no-sync"),
    ]
    # A failure is as grave as a difference; among those the name decides.
    wanted[:2] = sorted(wanted[:2], key=lambda case: case.strategy)
    assert [case.strategy for case in payload.ordered(reversed(wanted))] == [case.strategy for case in wanted]


def test_the_order_of_the_records_does_not_matter() -> None:
    assert payload.ordered(sample()[::-1]) == payload.ordered(sample())


def test_details_come_in_pieces() -> None:
    records = [record(f"strategy-{number:03}") for number in range(payload.CHUNK + 3)]
    blobs, num_detailed = payload.details(records, {})
    assert num_detailed == len(records)
    assert {name: len(json.loads(gzip.decompress(base64.b64decode(blob)))) for name, blob in blobs.items()} == {
        "cases-0": payload.CHUNK,
        "cases-1": 3,
    }


def test_what_exceeds_the_room_is_left_out_from_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "CHUNK", 2)
    records = [record(f"strategy-{number}") for number in range(7)]
    every, num_all = payload.details(records, {})
    assert num_all == 7
    sizes = list(itertools.accumulate(map(len, every.values())))
    for pieces, room in ((4, sizes[3]), (3, sizes[3] - 1), (3, sizes[2]), (1, sizes[0]), (0, sizes[0] - 1), (0, 0)):
        monkeypatch.setattr(payload, "ROOM", room)
        blobs, num_detailed = payload.details(records, {})
        assert list(blobs) == list(every)[:pieces]
        assert num_detailed == min(7, 2 * pieces)


def test_of_very_many_cases_the_equivalent_ones_are_brief(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [record("wrong", conclusion="different"), record("fine"), record("also-fine")]

    def heated() -> list[bool]:
        blobs, _ = payload.details(records, {})
        details = json.loads(gzip.decompress(base64.b64decode(blobs["cases-0"])))
        return [any(figure["kind"] == "heat" for figure in detail["figures"]) for detail in details]

    assert heated() == [True, True, True]
    monkeypatch.setattr(payload, "MANY", 2)
    assert heated() == [True, False, False]


def test_what_is_left_out_is_what_is_least_grave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "CHUNK", 1)
    run = write_run(
        tmp_path / RUN, [*(record(f"fine-{number}") for number in range(6)), record("wrong", conclusion="different")]
    )
    first = payload.unpack(write(run).read_text())
    monkeypatch.setattr(payload, "ROOM", len(payload.pack(first["cases-0"])) + 10)
    small = payload.unpack(write(run).read_text())
    assert small["index"]["detailed"] == 1
    assert small["index"]["lines"] == first["index"]["lines"]
    assert small["index"]["lines"][0]["strategy"] == "wrong"
    assert small["cases-0"] == first["cases-0"]
    assert "cases-1" not in small


@pytest.mark.parametrize("records", [[], [record()], sample(), hostile()], ids=["empty", "one", "sample", "hostile"])
def test_the_list_and_the_details_hold_the_same_cases_in_the_same_order(tmp_path: Path, records: list[Record]) -> None:
    run = read(write_run(tmp_path / RUN, records))
    blobs = payload.unpack(write(run).read_text())
    details = [detail for name, piece in blobs.items() if name.startswith("cases-") for detail in piece]
    assert [line["told"] for line in blobs["index"]["lines"]] == [detail["lead"] for detail in details]
    assert len(details) == len(records) == blobs["index"]["detailed"]


def test_a_long_output_does_not_fill_the_page() -> None:
    """Lines that repeat cost next to nothing: what a rank printed is packed with its case."""
    quiet, loud = record(), record(reason=CRASH + "\n  File 'x.py', line 1, in y" * 2000)
    sizes = [len(payload.pack([cases.detail(case, {})])) for case in (quiet, loud)]
    assert sizes[1] < sizes[0] + 2000
