"""The cause of a difference stands wherever that is told, with the way to make sure and the way to mend it."""

from __future__ import annotations

import html
from pathlib import Path

import msgspec
import pytest
from written_page import Page

from fixtures.sample_records import record, verdict, write_run
from harness import report, store
from harness.record import Diagnosis, Record

FOUND = Diagnosis(
    cause="summed-not-averaged",
    confidence="certain",
    words="every gradient is exactly 2x the reference",
    check="print <norms>",
    mend="divide once",
)
SAID = (
    "Cause: summed not averaged: every gradient is exactly 2x the reference.",
    "To make sure: print <norms>.",
    "To mend it: divide once.",
)


def told(found: Diagnosis | None) -> Record:
    return record(
        "torch-ddp", conclusion="different", evidence=msgspec.structs.replace(verdict("different"), diagnosis=found)
    )


def texts(found: Diagnosis | None, folder: Path) -> list[str]:
    run = write_run(folder, [told(found)])
    page = Page(report.write(run).read_text()).all_text
    read = store.read(run)
    return [page, "\n".join(report.terminal(read)), html.unescape(report.markdown(read))]


@pytest.mark.parametrize("place", [0, 1, 2], ids=["page", "terminal", "markdown"])
def test_the_cause_is_told_in_every_report(place: int, tmp_path: Path) -> None:
    text = texts(FOUND, tmp_path)[place]
    # Markdown marks what it must not take for its own.
    plain = text.replace("\\", "")
    assert all(said in plain for said in SAID), text


def test_a_cause_that_is_not_certain_is_called_likely(tmp_path: Path) -> None:
    likely = msgspec.structs.replace(FOUND, confidence="likely")
    assert all("Likely cause: summed not averaged" in text for text in texts(likely, tmp_path))


def test_an_unknown_cause_is_not_spoken_of(tmp_path: Path) -> None:
    assert not any("cause:" in text.lower() or "to mend it" in text.lower() for text in texts(None, tmp_path))
