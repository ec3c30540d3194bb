"""The terminal's lines and the Markdown of a CI job: the same words as the page, and safe to print."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.sample_records import RUN, hostile, record, sample, timing, write_run
from harness.record import Record
from harness.report import headline, markdown, terminal
from harness.report import summary as summaries
from harness.report.job_page import escape
from harness.store import Run, read


def run_of(folder: Path, records: list[Record]) -> Run:
    return read(write_run(folder / RUN, records))


def test_terminal_and_markdown_give_the_same_answer(tmp_path: Path) -> None:
    run = run_of(tmp_path, sample())
    answer = headline.answer(summaries.summarise(run))
    assert terminal(run)[-1] == answer
    assert markdown(run).splitlines()[0] == f"## {escape(answer)}"


def test_the_terminal_shows_every_judged_case_and_every_reason(tmp_path: Path) -> None:
    lines = terminal(run_of(tmp_path, sample()))
    shown = [" ".join(line.split()) for line in lines]
    assert "torch-ddp 2 cpu equivalent 2.1 of 100 1.32 s 1.81x [1.75, 1.87] 90 % [87, 94]" in shown
    assert "needs 2 CUDA devices, found 0 (CUDA_VISIBLE_DEVICES is not set) (6 cases: " in "\n".join(shown)
    assert sum("equivalent" in line or "different" in line for line in lines) >= 14


def test_a_struck_case_shows_no_speed_up_in_any_text(tmp_path: Path) -> None:
    struck = run_of(tmp_path, [record(conclusion="different", timing=timing(1.42))])
    for shown in ("\n".join(terminal(struck)), markdown(struck)):
        assert "1.42" not in shown
        assert "no speed-up: different" in shown
    assert "~~" in markdown(struck)


def test_an_equivalent_case_shows_its_speed_up_in_every_text(tmp_path: Path) -> None:
    run = run_of(tmp_path, [record(timing=timing(1.42))])
    for shown in ("\n".join(terminal(run)), markdown(run)):
        assert "1.42x" in shown


def test_markdown_says_why_a_case_is_not_equivalent(tmp_path: Path) -> None:
    shown = markdown(run_of(tmp_path, sample()))
    assert "- **digits-cnn/tf-mirrored/2/cpu**: differs first at step 0, rank 1, in gradients before clipping" in shown
    assert "### Not verified, and why" in shown


def test_every_table_row_of_the_markdown_has_as_many_cells_as_its_heading(tmp_path: Path) -> None:
    for records in (sample(), hostile()):
        rows = [
            line for line in markdown(run_of(tmp_path / str(len(records)), records)).splitlines() if line[:1] == "|"
        ]
        assert {row.replace("\\|", "").count("|") for row in rows} == {8}


def test_markup_in_a_name_stays_text(tmp_path: Path) -> None:
    shown = markdown(run_of(tmp_path, hostile()))
    assert "<script>" not in shown
    assert shown.count("<") == 2, "only our own <sub> is markup"


def test_a_name_cannot_steer_the_terminal(tmp_path: Path) -> None:
    assert all(line.isprintable() for line in terminal(run_of(tmp_path, hostile())))


@pytest.mark.parametrize("records", [[], [record()]])
def test_small_runs_have_a_summary_too(tmp_path: Path, records: list[Record]) -> None:
    run = run_of(tmp_path, records)
    assert terminal(run)[-1].endswith(".")
    assert markdown(run).startswith("## ")
