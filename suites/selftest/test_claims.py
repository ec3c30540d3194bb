"""Claims of studies on disk: written beside the records, read back as they were, and what is lost is told."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fixtures.sample_claims import claim, claims, hostile
from fixtures.sample_records import RUN, sample, write_run
from harness.claims import PublishedClaim, Study
from harness.errors import SpecError
from harness.store import CLAIMS, RECORDS, Journal, RunInfo, read


def written(folder: Path, *claims: PublishedClaim) -> Path:
    journal = Journal(folder, RunInfo(id=RUN))
    for one in claims:
        journal.append(one)
    journal.finish(0)
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": " "}, "expected source but it is empty"),
        ({"where": ""}, "expected where but it is empty"),
        ({"here": None}, "expected what was found here but got only holds='yes'"),
        ({"holds": "not tested", "reason": ""}, "expected a reason why it is not tested"),
        ({"holds": "inconclusive", "reason": " "}, "expected a reason why it is inconclusive"),
    ],
)
def test_a_claim_without_source_finding_or_reason_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        claim(**changes)


def test_claims_come_back_as_they_were_written_and_records_stay_apart(tmp_path: Path) -> None:
    run = read(written(tmp_path / RUN, *claims()))
    assert list(run.claims) == claims()
    assert run.records == ()
    assert run.losses == ()
    assert len((tmp_path / RUN / RECORDS).read_bytes()) == 0


def test_hostile_texts_and_numbers_that_are_none_survive(tmp_path: Path) -> None:
    (found,) = read(written(tmp_path / RUN, *hostile())).claims
    assert math.isnan(found.published)
    assert found.here is not None
    assert (found.here.low, found.here.high) == (-math.inf, math.inf)
    assert found.text == hostile()[0].text


def test_a_run_without_claims_has_no_file_of_them(tmp_path: Path) -> None:
    run = read(write_run(tmp_path / RUN, sample()))
    assert run.claims == ()
    assert not (tmp_path / RUN / CLAIMS).exists()


def test_what_cannot_be_read_of_claims_is_told_and_the_rest_shown(tmp_path: Path) -> None:
    folder = written(tmp_path / RUN, claim())
    refused = msgspec.json.encode({**msgspec.to_builtins(claim()), "source": ""})
    with (folder / CLAIMS).open("ab") as file:
        file.write(refused + b'\n{"schema":1,"study":"half')
    run = read(folder)
    assert run.claims == (claim(),)
    assert run.losses == (f"2 damaged lines of {CLAIMS} (lines 2, 3) were left out",)
    assert run.num_damaged == 0


def test_a_claim_after_half_a_line_begins_a_line_of_its_own(tmp_path: Path) -> None:
    folder = written(tmp_path / RUN, claim())
    with (folder / CLAIMS).open("ab") as file:
        file.write(b'{"schema":1,"study":"half')
    assert read(written(folder, claim("2"))).claims == (claim(), claim("2"))


def test_a_study_fills_in_its_run_and_its_test() -> None:
    kept: list[PublishedClaim] = []
    Study(run=RUN, test="test_it", keep=kept.append).report(claim())
    assert kept == [claim(run=RUN, test="test_it")]
