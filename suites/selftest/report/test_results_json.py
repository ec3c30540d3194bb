"""``results.json``: valid under the schema that ships with it, whatever a run holds, and quick to write."""

from __future__ import annotations

import json
import math
import time
import tracemalloc
from pathlib import Path
from typing import Any, NoReturn

import jsonschema
import msgspec
import pytest

import harness.report
from fixtures.sample_records import RUN, hostile, interval, record, sample, skipped, timing, write_run
from harness import store
from harness.errors import StoreError
from harness.record import Conclusion, Record
from harness.report import headline
from harness.report import summary as summaries
from harness.report.export import badge, results
from harness.store import Run, RunInfo

VALID = jsonschema.Draft202012Validator(results.schema())


def written(folder: Path, records: list[Record], **info: Any) -> dict[str, Any]:
    """Write a run and its results, and return these as any other program reads them: strictly."""
    found = loaded(results.write(store.read(write_run(folder / RUN, records, **info))))
    VALID.validate(found)
    return found


def loaded(path: Path) -> dict[str, Any]:
    def refuse(word: str) -> NoReturn:
        raise AssertionError(f"{word} is no JSON")

    found: dict[str, Any] = json.loads(path.read_bytes(), parse_constant=refuse)
    return found


def concluded(records: list[Record]) -> Conclusion:
    run = Run(directory=Path(RUN), info=RunInfo(id=RUN, ended="2026-11-20T10:15:02Z"), records=tuple(records))
    return results.conclusion(summaries.summarise(run))


def test_the_schema_in_the_package_is_the_one_of_the_types() -> None:
    kept = Path(results.__file__).with_name(results.SCHEMA_FILE).read_text()
    assert kept == results.schema_text(), "harness export --schema > harness/report/export/results.schema.json"


def test_the_schema_is_valid_itself_and_names_its_version() -> None:
    jsonschema.Draft202012Validator.check_schema(results.schema())
    assert results.schema()["$id"] == "urn:lockstep:lockstep-results/1"


@pytest.mark.parametrize("records", [sample(), hostile(), [], [record()]], ids=["whole", "hostile", "empty", "one"])
def test_every_run_is_valid_and_comes_back_as_it_was(tmp_path: Path, records: list[Record]) -> None:
    found = written(tmp_path, records)
    assert found["schema"] == "lockstep-results/1"
    back = msgspec.json.decode((tmp_path / RUN / results.FILE).read_bytes(), type=results.Results, strict=False)
    summary = summaries.summarise(store.read(tmp_path / RUN))
    assert [one.case for one in back.cases] == [one.case for one in summary.cases]
    assert back.summary == results.overview(summary)


def test_it_says_what_every_report_says(tmp_path: Path) -> None:
    found = written(tmp_path, sample())["summary"]
    summary = summaries.summarise(store.read(tmp_path / RUN))
    assert found["question"] == headline.question(summary)
    assert found["answer"] == headline.answer(summary)
    assert found["tally"] == summaries.tally(summary)
    assert sum(found["counts"].values()) == len(summary.cases)
    assert found["answer"].startswith(f"{found['num_equal']} of {found['num_judged']} strategies")
    assert [one["reason"] for one in found["not_verified"]] == [reason for reason, _ in summaries.not_verified(summary)]
    assert found["fastest"]["case"] == "digits-cnn/torch-ddp/2/cpu"


def test_it_holds_one_merged_record_a_case_and_faults_apart(tmp_path: Path) -> None:
    found = written(tmp_path, [*sample(), record("torch-ddp", duration_s=2.0)])
    ids = [one["case"] for one in found["cases"]]
    assert len(ids) == len(set(ids))
    assert {one["fault"] for one in found["cases"]} == {None}
    assert {one["fault"] for one in found["faults"]} == {"sum-instead-of-mean", "no-initial-broadcast"}


def test_numbers_that_json_has_not_are_words_that_the_schema_knows(tmp_path: Path) -> None:
    spoilt = timing(1.0, samples_per_s=math.nan, epoch_wall_s=(math.inf, -math.inf, 1.0))
    (case,) = written(tmp_path, [record(timing=spoilt)])["cases"]
    assert case["timing"]["samples_per_s"] == "nan"
    assert case["timing"]["epoch_wall_s"] == ["inf", "-inf", 1.0]


@pytest.mark.parametrize(
    ("place", "value"),
    [("margin", "much"), ("verdict", "fine"), ("world_size", 2.5), ("command", None), ("duration_s", "Infinity")],
)
def test_what_is_not_as_the_schema_says_is_refused(tmp_path: Path, place: str, value: object) -> None:
    found = written(tmp_path, [record()])
    found["cases"][0][place] = value
    with pytest.raises(jsonschema.ValidationError):
        VALID.validate(found)


def test_a_field_that_a_later_version_adds_is_no_error(tmp_path: Path) -> None:
    found = written(tmp_path, [record()])
    found["cases"][0]["weather"] = "fine"
    VALID.validate(found)


def test_a_damaged_journal_is_told_and_the_rest_is_there(tmp_path: Path) -> None:
    folder = write_run(tmp_path / RUN, [record(), record("torch-threads")])
    journal = folder / store.RECORDS
    journal.write_bytes(journal.read_bytes()[:-40])
    found = loaded(results.write(store.read(folder)))
    VALID.validate(found)
    assert [one["strategy"] for one in found["cases"]] == ["torch-ddp"]
    assert found["losses"] == ["1 damaged line of records.jsonl (line 2) was left out"]
    assert not found["summary"]["complete"]


def test_a_run_that_goes_on_is_not_complete(tmp_path: Path) -> None:
    assert not written(tmp_path / "on", [record()], ended=False)["summary"]["complete"]
    assert written(tmp_path / "done", [record()])["summary"]["complete"]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([record()], "equivalent"),
        ([record(), record("torch-threads", conclusion="different")], "different"),
        ([record(), record("torch-threads", conclusion="different", finding="it is known to")], "equivalent"),
        ([record(conclusion="different", finding="it is known to")], "different"),
        ([record(), record("torch-threads", conclusion="inconclusive")], "inconclusive"),
        ([record(), record("torch-threads", conclusion="not-verified", failed=True)], "different"),
        ([record(), record(conclusion="different", fault="one")], "equivalent"),
        ([record(), record(conclusion="equivalent", fault="one")], "inconclusive"),
        ([skipped("torch-dp", "digits-mlp", 2, "no GPU")], "not-verified"),
        ([record("torch-serial", world_size=1)], "not-verified"),
        ([], "not-verified"),
    ],
)
def test_the_gravest_case_speaks_for_the_run(records: list[Record], expected: Conclusion) -> None:
    assert concluded(records) == expected


def test_a_speed_up_is_a_gain_only_over_the_whole_machine_too(tmp_path: Path) -> None:
    real = timing(1.87)
    beaten = msgspec.structs.replace(
        real,
        baselines=tuple(
            msgspec.structs.replace(run, speedup=interval(0.9)) if run.name == "whole machine" else run
            for run in real.baselines
        ),
    )
    unclear = msgspec.structs.replace(real, claim="inconclusive")
    for number, (timed, gain) in enumerate([(real, True), (beaten, False), (unclear, False)]):
        assert written(tmp_path / str(number), [record(timing=timed)])["summary"]["fastest"]["gain"] is gain


def test_the_page_brings_the_results_and_the_badge_along(tmp_path: Path) -> None:
    folder = write_run(tmp_path / RUN, sample())
    harness.report.write(folder)
    assert {results.FILE, badge.FILE, "index.html"} <= {path.name for path in folder.iterdir()}


def test_results_that_cannot_be_written_are_told_with_the_way_out(tmp_path: Path) -> None:
    run = store.read(write_run(tmp_path / RUN, [record()]))
    (tmp_path / RUN / results.FILE).mkdir()
    with pytest.raises(StoreError, match=r"results\.json but .* choose another place"):
        results.write(run)


def test_ten_thousand_records_are_written_at_once_and_one_after_the_other(tmp_path: Path) -> None:
    some = sample()
    many = tuple(
        msgspec.structs.replace(some[number % len(some)], case=f"{number}/{some[number % len(some)].case}")
        for number in range(10_000)
    )
    run = Run(directory=tmp_path, info=RunInfo(id=RUN), records=many)
    began = time.process_time()
    size = results.write(run).stat().st_size
    assert time.process_time() - began < 1.0
    tracemalloc.start()
    try:
        results.write(Run(directory=tmp_path, info=run.info, records=many[:2_000]))
        assert tracemalloc.get_traced_memory()[1] < size / 20
    finally:
        tracemalloc.stop()
