"""The Markdown of a run: no longer than a job page or a comment may be, the gravest first, and nothing in it acts."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from fixtures.sample_records import RUN, hostile, record, sample, skipped
from harness.errors import UsageError
from harness.record import Record
from harness.report import headline, words
from harness.report import summary as summaries
from harness.report.job_page import SMALLEST, STEP_SUMMARY, escape, markdown
from harness.store import Run, RunInfo

COMMENT = 65_000
NASTY = "@octocat #12 GH-7 https://x.example www.x.example [a](javascript:b) ![i](x) |`~~<img src=x>&$1$ :smile: \x1b"


def run_of(records: list[Record], *losses: str) -> Run:
    return Run(directory=Path(RUN), info=RunInfo(id=RUN), records=tuple(records), losses=losses)


def many(number: int, **changes: str) -> list[Record]:
    some = sample()
    return [
        msgspec.structs.replace(
            some[index % len(some)],
            case=f"{index}/{some[index % len(some)].case}{changes.get('name', '')}",
            reason=f"{index} {changes['reason']}" if "reason" in changes else some[index % len(some)].reason,
        )
        for index in range(number)
    ]


@pytest.mark.parametrize("limit", [SMALLEST, 20_000, COMMENT, STEP_SUMMARY])
@pytest.mark.parametrize(
    "run",
    [
        run_of([]),
        run_of([record()]),
        run_of(hostile()),
        run_of(many(3_000)),
        run_of(many(1_000, name=NASTY * 9, reason="&" * 5_000), *["#1" * 2_000] * 30),
    ],
    ids=["empty", "one", "hostile", "large", "large and hostile"],
)
def test_it_is_never_longer_than_the_limit(run: Run, limit: int) -> None:
    shown = markdown(run, limit)
    assert len(shown.encode()) <= limit
    assert shown.startswith(f"## {escape(headline.answer(summaries.summarise(run)))}\n")
    assert shown.endswith("</sub>\n")


def test_a_limit_too_small_for_the_first_screen_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a limit of 8,000 bytes or more but got 100"):
        markdown(run_of([record()]), 100)


def test_what_is_cut_is_counted() -> None:
    run = run_of(many(3_000))
    judged = sum(map(len, summaries.by_workload(summaries.summarise(run).cases).values()))
    shown = markdown(run, COMMENT)
    (left_out,) = re.findall(r"\*\*([\d,]+) cases of ([\d,]+) are left out here\*\*", shown)
    rows = [line for line in shown.splitlines() if re.match(r"\| (?!strategy|---)", line)]
    assert [int(number.replace(",", "")) for number in left_out] == [judged - len(rows), judged]


def test_a_run_that_fits_leaves_nothing_out() -> None:
    shown = markdown(run_of(sample()))
    assert "left out" not in shown
    assert len([line for line in shown.splitlines() if re.match(r"\| (?!strategy|---)", line)]) == 15


def test_what_differs_is_kept_longest() -> None:
    # The only one that differs is the last of the last table.
    records = [record("torch-ddp", f"a-{number}") for number in range(2_000)]
    records.append(record("zzz", "zzz", conclusion="different"))
    shown = markdown(run_of(records), SMALLEST)
    assert "| zzz | 2 cpu | **different** |" in shown
    assert "- **zzz/zzz/2/cpu**: differs first" in shown
    assert "are left out here" in shown


def test_the_first_screen_comes_before_every_table() -> None:
    shown = markdown(run_of(sample(), "3 damaged lines of records.jsonl were left out"), SMALLEST)
    summary = summaries.summarise(run_of(sample()))
    before = shown.partition("\n| strategy")[0]
    assert summaries.tally(summary) in before
    assert "> 3 damaged lines" in before
    for reason, names in summaries.not_verified(summary):
        assert escape(words.not_verified(reason, names)) in before


def test_reasons_that_do_not_fit_are_counted() -> None:
    records = [skipped("torch-dp", f"w{number}", 2, f"reason {number} {'x' * 300}") for number in range(300)]
    shown = markdown(run_of([record(), *records]), COMMENT)
    kept = len(re.findall(r"^- reason", shown, re.MULTILINE))
    assert 0 < kept < 300
    assert f"- {300 - kept} reasons more ({300 - kept} cases), left out here" in shown


@pytest.mark.parametrize(
    ("text", "acting"),
    [
        ("@octocat", r"@\w"),
        ("a@b.example", r"@\w"),
        ("see #12", r"(?<!\\)#|#\d"),
        ("GH-12", r"GH-\d"),
        ("https://x.example", "://"),
        ("WWW.x.example", r"www\."),
        (":smile:", r":smile:"),
        ("[a](b)", r"(?<!\\)\["),
        ("![a](b)", r"(?<!\\)\["),
        ("a|b", r"(?<!\\)\|"),
        ("`a`", r"(?<!\\)`"),
        ("$a$", r"(?<!\\)\$"),
        ("<script>", "<"),
        ("&#64;octocat", "&#"),
        ("<!-- hidden", "<"),
        ("- a list", r"^- "),
        ("+ a list", r"^\+ "),
        ("1. a list", r"^\d+\. "),
        ("1) a list", r"^\d+\) "),
        ("--- a rule", r"^---"),
        ("===", r"^==="),
        ("\x1b[31m\u202ered", "\x1b|\u202e"),
        ("two\n\nlines", "\n"),
    ],
)
def test_no_text_acts(text: str, acting: str) -> None:
    assert re.search(acting, text, re.IGNORECASE) or "[" in acting, "the text would act as it is"
    assert not re.search(acting, escape(text), re.IGNORECASE)


@pytest.mark.parametrize("text", ["torch-ddp", "-", "1.72x", "0.5 of 2", "digits-mlp/torchgpipe+chunks=4/2/cpu"])
def test_a_plain_text_stays_as_it_is(text: str) -> None:
    assert escape(text) == text


def test_hostile_names_leave_no_link_mention_or_markup() -> None:
    records = [*many(20, name=NASTY, reason=NASTY), record(NASTY, NASTY), skipped(NASTY, NASTY, 2, NASTY)]
    shown = markdown(run_of(records, NASTY))
    assert not re.search(r"@\w|://|www\.|(?<!\\)#\d|GH-\d|<(?!/?sub>)", shown)
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {8}
