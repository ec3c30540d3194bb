"""The page's data of studies: counts, ratios, what needs attention first; hostile strings and numbers."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import msgspec
import pytest

from fixtures.sample_claims import NASTY, claim, claims, hostile
from fixtures.sample_records import record, skipped, write_run
from harness.claims import PublishedClaim, exactly
from harness.report.console import terminal
from harness.report.html import payload
from harness.report.sections import studies
from harness.store import Run, RunInfo, read


def test_a_study_is_counted_in_a_sentence() -> None:
    found = [claim("1"), claim("2"), claim("3", "no"), claim("4", "not tested"), claim("5", "inconclusive")]
    assert studies.sentence(found) == "Of 5 claims 2 hold here, 1 does not, 1 is inconclusive, 1 was not tested."
    assert studies.sentence([claim()]) == "Of 1 claim 1 holds here."
    assert studies.sentence([claim(contradicts="table 1")]).endswith("1 published figure contradicts others.")


def test_a_line_holds_what_is_published_what_was_found_and_their_ratio() -> None:
    (study,) = studies.studies([claim()])
    (line,) = study.lines
    assert (line.published, line.here) == ("104.6 s", "115.0 s [104.6, 120.0]")
    assert line.ratio == "1.10 [1.00, 1.15]"
    assert (line.value, line.found, line.low, line.high) == (104.56, 115.0, 104.56, 120.0)
    assert study.kinds == (("measured", studies.KIND["measured"]),)


def test_a_single_number_has_no_interval() -> None:
    (study,) = studies.studies([claim(kind="recomputed", here=exactly(2.13), published=2.18, unit="x")])
    assert (study.lines[0].published, study.lines[0].here, study.lines[0].ratio) == ("2.180x", "2.130x", "0.977")


def test_what_needs_attention_comes_first() -> None:
    found = [claim("1"), claim("2", "not tested"), claim("3", "no"), claim("4", contradicts="table 1")]
    (study,) = studies.studies(found)
    assert [line.id for line in study.lines] == ["4", "3", "1", "2"]


def test_a_claim_told_twice_counts_once_and_the_later_word_holds() -> None:
    found = [claim("1", "not tested"), claim("1")]
    (study,) = studies.studies(found)
    assert [line.holds for line in study.lines] == ["yes"]
    assert study.sentence == studies.sentence(found) == "Of 1 claim 1 holds here."


def test_studies_keep_apart_and_in_order() -> None:
    found = studies.studies([claim(), claim(study="CIFAR-10"), claim("2")])
    assert [(study.name, len(study.lines)) for study in found] == [("MNIST", 2), ("CIFAR-10", 1)]
    assert studies.studies([]) == []
    assert studies.lines([]) == []


def test_made_up_claims_are_counted_by_kind() -> None:
    first, second = studies.studies(claims())
    assert first.sentence == (
        "Of 4 claims 1 holds here, 1 does not, 1 is inconclusive, 1 was not tested. "
        "Of 2 derived figures 1 follows from the source's other figures, 1 does not. "
        "1 published figure contradicts others."
    )
    assert [kind for kind, _ in first.kinds] == ["measured", "recomputed"]
    assert second.sentence == "Of 2 predictions 1 is as published, 1 is not."


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_numbers_and_texts_that_are_hostile_are_told(value: float) -> None:
    (study,) = studies.studies([*hostile(), claim(study=NASTY, published=value)])
    assert study.lines[0].text == NASTY
    assert (study.lines[0].value, study.lines[0].low, study.lines[0].published) == (None, None, f"not a number {NASTY}")
    assert payload.pack(study)
    assert all(line.isprintable() for line in terminal_lines([*hostile()]))


def terminal_lines(found: list[PublishedClaim]) -> list[str]:
    return terminal(Run(directory=Path(), info=RunInfo(id="r"), records=(), claims=tuple(found)))


def test_what_was_not_run_here_is_not_said_to_hold_here() -> None:
    foretold = [claim("1", kind="predicted"), claim("2", "no", kind="predicted")]
    assert studies.sentence(foretold) == "Of 2 predictions 1 is as published, 1 is not."
    assert [line.told for line in studies.studies(foretold)[0].lines] == ["predicted wrongly", "predicted rightly"]
    again = [claim("1", kind="recomputed"), claim("2", kind="recomputed")]
    assert studies.sentence(again) == "Of 2 derived figures 2 follow from their source's other figures."


def test_the_terminal_tells_what_there_is_where_no_case_was_asked_for(tmp_path: Path) -> None:
    injected = record(conclusion="different", fault="sum-for-mean")
    run = read(write_run(tmp_path / "run", [injected]))
    told = terminal(dataclasses.replace(run, claims=(claim(text=NASTY),)))
    assert told[:2] == ["studies", "  MNIST: Of 1 claim 1 holds here."]
    assert told[-1] == "No case was asked for, only 1 injected fault and 1 claim of a study."
    assert terminal(dataclasses.replace(run, records=()))[-1] == "Nothing was verified: no case was recorded."


def test_a_fault_that_ends_its_ranks_is_not_said_to_be_unseen(tmp_path: Path) -> None:
    ended = msgspec.structs.replace(skipped("torch-ddp", "digits-mlp", 2, "died"), fault="rank-exits", failed=True)
    caught, missed = record(conclusion="different", fault="a"), record(fault="b")
    told = terminal(read(write_run(tmp_path / "run", [caught, ended])))
    assert "Of 2 injected faults 1 came out different and 1 ended with an error, as each must." in told
    told = terminal(read(write_run(tmp_path / "other", [caught, missed])))
    assert "Of 2 injected faults 1 came out different, as each must; missed: b on torch-ddp." in told
