"""The badge: what it says, in whose colour, and that nothing in it acts."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from fixtures.sample_records import RUN, hostile, record, sample, skipped, timing, write_run
from harness.record import Conclusion, Record
from harness.report.export import badge
from harness.report.headline import answer
from harness.report.summary import Summary, summarise
from harness.store import Run, RunInfo, read

SVG = "{http://www.w3.org/2000/svg}"
MULTI: list[Record] = [record(), record("torch-threads", conclusion="different")]


def summary_of(records: list[Record], *, ended: str = "2026-11-20T10:15:02Z") -> Summary:
    return summarise(Run(directory=Path(RUN), info=RunInfo(id=RUN, ended=ended), records=tuple(records)))


@pytest.mark.parametrize(
    ("records", "says", "colour"),
    [
        ([record(timing=timing(2.4))], "1 of 1 equal · 2.40x", "equivalent"),
        ([record(timing=timing(0.9))], "1 of 1 equal", "equivalent"),
        (MULTI, "1 of 2 equal", "different"),
        ([record(conclusion="inconclusive")], "0 of 1 equal", "inconclusive"),
        ([skipped("torch-dp", "digits-mlp", 2, "no GPU")], "nothing verified", "not-verified"),
        ([], "nothing verified", "not-verified"),
    ],
)
def test_it_says_how_many_are_equal_and_how_fast_in_the_colour_of_the_verdict(
    records: list[Record], says: str, colour: Conclusion
) -> None:
    summary = summary_of(records)
    texts = [text.text for text in ET.fromstring(badge.svg(summary)).iter(f"{SVG}text")]
    assert texts == ["lockstep", says]
    assert badge.COLOURS[colour] in badge.svg(summary)


def test_a_run_that_goes_on_is_not_green() -> None:
    summary = summary_of([record()], ended="")
    assert badge.message(summary) == "1 of 1 equal so far"
    assert badge.tone(summary) == "inconclusive"


def test_it_says_on_how_many_cases_it_rests_and_begins_with_a_bug_that_went_unseen() -> None:
    unverified = [record(), skipped("torch-ddp", "w", 2, "no GPU")]
    assert badge.message(summary_of(unverified)) == "1 of 1 equal · 1 of 2 cases"
    assert badge.message(summary_of([record(), record(fault="sum")])) == "1 injected fault went unseen · 1 of 1 equal"


def test_a_screen_reader_is_told_the_badge_and_its_title_is_the_answer() -> None:
    summary = summary_of(sample())
    drawn = ET.fromstring(badge.svg(summary))
    assert drawn.get("role") == "img"
    assert drawn.get("aria-label") == f"lockstep: {badge.message(summary)}"
    assert drawn.findtext(f"{SVG}title") == answer(summary)


def test_white_is_read_on_every_colour() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert all(1.05 / (luminance(colour) + 0.05) > 4.5 for colour in badge.COLOURS.values())


def test_nothing_in_it_acts_or_comes_from_elsewhere(tmp_path: Path) -> None:
    drawn = badge.svg(summarise(read(write_run(tmp_path / RUN, hostile()))))
    tags = {element.tag.removeprefix(SVG) for element in ET.fromstring(drawn).iter()}
    assert tags == {"svg", "title", "path", "g", "text"}
    assert not any(word in drawn for word in ("href", "url(", "@import", "style", "<script"))


def test_text_of_any_kind_leaves_it_well_formed() -> None:
    drawn = badge.drawn('<b>"&', "different", title="</title><script>\x1b\x00")
    assert ET.fromstring(drawn).get("aria-label") == 'lockstep: <b>"&'


def test_a_longer_text_makes_a_wider_badge() -> None:
    short, long = (int(ET.fromstring(badge.drawn(text, "different", title="")).get("width", "")) for text in ("i", "W"))
    assert short < long


def test_it_is_written_beside_the_records(tmp_path: Path) -> None:
    run = read(write_run(tmp_path / RUN, sample()))
    assert badge.write(run).read_text() == badge.svg(summarise(run))
