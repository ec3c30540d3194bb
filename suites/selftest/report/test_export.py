"""``harness export``: a run as CSV, Parquet and the rest, in columns and types that others can rely on."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest

from fixtures.sample_records import RUN, hostile, record, sample, timing, write_run
from harness import store
from harness.cli import main
from harness.errors import MissingRequirementError
from harness.record import Record
from harness.report import job_page
from harness.report import summary as summaries
from harness.report.export import badge, results
from harness.report.export import formats as export
from harness.store import Run, RunInfo

pq = pytest.importorskip("pyarrow.parquet")


def run_of(*records: Record) -> Run:
    return Run(directory=Path(RUN), info=RunInfo(id=RUN), records=records)


def cells(run: Run) -> list[dict[str, str]]:
    text = b"".join(export.csv_lines(run)).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def parquet(run: Run, folder: Path) -> Any:
    path = folder / "run.parquet"
    path.write_bytes(export.parquet(run))
    return pq.read_table(path)


def test_csv_has_the_columns_of_load_and_a_row_a_case() -> None:
    run = run_of(*sample(), record("torch-ddp"))
    rows = cells(run)
    assert list(rows[0]) == store.table(run, per_case=True)[0]
    assert len(rows) == len(store.merge(run.records))


def test_lists_in_csv_are_json_and_what_is_absent_is_empty() -> None:
    (row,) = cells(run_of(record(timing=timing(1.5))))
    assert len(json.loads(row["timing.epoch_wall_s"])) == 9
    assert json.loads(row["evidence.rungs"])[0]["rung"] == "data order"
    assert row["fault"] == ""


def test_csv_tells_nan_from_nothing() -> None:
    (row,) = cells(run_of(record(timing=timing(1.5, samples_per_s=float("nan")))))
    assert row["timing.samples_per_s"] == "nan"
    assert row["timing.resolution"] == ""


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_text_in_csv_is_a_formula(text: str) -> None:
    (row,) = cells(run_of(record(reason=text, environment={text: text})))
    assert row["reason"] == f"'{text}"
    assert row[f"environment.{text}"] == f"'{text}"
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in [*row, *row.values()])


def test_a_negative_number_in_csv_stays_a_number() -> None:
    (row,) = cells(run_of(record(margin=-1.5)))
    assert row["margin"] == "-1.5"


def test_pandas_reads_the_csv_of_hostile_records(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_bytes(b"".join(export.csv_lines(run_of(*hostile()))))
    assert len(pd.read_csv(path)) == 3


def test_parquet_holds_what_load_holds_with_its_types(tmp_path: Path) -> None:
    table = parquet(run_of(*sample()), tmp_path)
    frame = store.load(run_of(*sample()), per_case=True)
    assert table.column_names == list(frame.columns)
    assert table.column("case").to_pylist() == list(frame["case"])
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert types["world_size"] == "int64"
    assert types["margin"] == types["timing.speedup.median"] == "double"
    assert types["timing.baselines.whole_machine.speedup.low"] == "double"
    assert types["failed"] == "bool"
    assert types["timing.epoch_s"] == "list<element: list<element: double>>"


def test_a_column_of_parquet_has_its_type_where_the_run_holds_nothing_of_it(tmp_path: Path) -> None:
    full, bare = parquet(run_of(*sample()), tmp_path).schema, parquet(run_of(record()), tmp_path).schema
    assert {name: full.field(name).type for name in bare.names} == {name: bare.field(name).type for name in bare.names}
    assert parquet(run_of(), tmp_path).num_rows == 0


def test_pandas_reads_parquet_of_hostile_records(tmp_path: Path) -> None:
    table = parquet(run_of(*hostile()), tmp_path)
    frame = pd.read_parquet(tmp_path / "run.parquet")
    assert frame["reason"].tolist() == table.column("reason").to_pylist()
    assert "\\ud800" in frame["reason"][0]


def test_values_of_several_kinds_under_one_name_are_texts_in_parquet(tmp_path: Path) -> None:
    run = run_of(record(features={"a": 1, "b": 1, "c": 10**30}), record("x", features={"a": "one", "b": 0.5, "c": 1}))
    table = parquet(run, tmp_path)
    assert table.column("features.a").to_pylist() == ["1", "one"]
    assert table.column("features.b").to_pylist() == [1.0, 0.5]
    assert table.column("features.c").to_pylist() == [str(10**30), "1"]


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingRequirementError, match=r"lockstep-harness\[parquet\]"):
        export.parquet(run_of(record()))


@pytest.mark.parametrize("kind", ["json", "csv", "md", "svg", "parquet"])
def test_the_suffix_chooses_the_kind(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / RUN, sample())
    made = tmp_path / f"out.{kind}"
    assert main(["export", str(folder), str(made)]) == 0
    assert capsys.readouterr().out == f"{made}\n"
    run = store.read(folder)
    expected = {
        "json": lambda: b"".join(results.lines(run)),
        "csv": lambda: b"".join(export.csv_lines(run)),
        "md": lambda: job_page.markdown(run).encode(),
        "svg": lambda: badge.svg(summaries.summarise(run)).encode(),
        "parquet": lambda: export.parquet(run),
    }
    assert made.read_bytes() == expected[kind]()


def test_without_a_file_a_text_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / RUN, sample())
    assert main(["export", str(folder)]) == 0
    found = msgspec.json.decode(capsys.readouterr().out.encode(), type=results.Results, strict=False)
    assert found.run.id == RUN
    assert main(["export", str(folder), "-", "--format", "md"]) == 0
    assert capsys.readouterr().out.startswith("## ")


def test_the_schema_is_said_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--schema", "--ls-report-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == results.schema_text()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["out.xlsx"], "expected a file that ends in .json, .csv, .md, .svg, .parquet but got"),
        (["-", "--format", "parquet"], "expected a FILE for parquet"),
        (["no/such/folder/out.csv"], "expected to write no/such/folder/out.csv but No such file"),
    ],
)
def test_what_cannot_be_exported_is_told(
    asked: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / RUN, [record()])
    assert main(["export", str(folder), *asked]) == 2
    assert told in capsys.readouterr().err


def test_a_file_that_cannot_be_written_has_a_way_out_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", [record()])
    (tmp_path / "taken").write_text("")
    bad = str(tmp_path / "taken" / "out.csv")
    for arguments, way_out in (
        (["export", str(run), bad], "name another file"),
        (["report", str(run), "--markdown", "--output", bad], "name another file with --output FILE"),
        (["report", str(run), "--output", bad], "name another file with --output FILE"),
        (["compare", str(run), str(run), "--html", bad], "name another file with --html FILE"),
    ):
        assert main(arguments) != 0
        told = capsys.readouterr().err
        assert told.strip().endswith(f"or {way_out}")
