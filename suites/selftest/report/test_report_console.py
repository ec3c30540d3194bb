"""The summary on a terminal: what is wrong first and how to repeat it, no wider than it, no longer than one reads."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from fixtures.sample_records import CRASH, RUN, hostile, record, sample, timing, write_run
from harness.record import Conclusion, Record
from harness.report import terminal
from harness.report.console import MAX_ROWS
from harness.store import read


def lines_of(folder: Path, records: list[Record], width: int | None = None) -> list[str]:
    return terminal(read(write_run(folder / RUN, records)), width=width)


def many(number: int, wrong: int = 0) -> list[Record]:
    return [record(f"strategy-{n:03}", conclusion="different" if n < wrong else "equivalent") for n in range(number)]


def failed(strategy: str) -> Record:
    return msgspec.structs.replace(
        record(strategy), verdict="not-verified", failed=True, reason=CRASH, evidence=None, margin=None
    )


def test_what_differs_or_failed_comes_before_what_is_equivalent(tmp_path: Path) -> None:
    records = [record("a"), record("b", conclusion="inconclusive"), failed("c"), record("d", conclusion="different")]
    found = [line.split()[0] for line in lines_of(tmp_path, records) if line.startswith("  ") and " 2 cpu " in line]
    assert found == ["d", "c", "b", "a"]


def test_each_trouble_brings_its_reason_and_the_command_that_repeats_it(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, [record("a", conclusion="different"), failed("b"), record("c")])
    assert "different: digits-mlp/a/2/cpu" in lines
    place = lines.index("failed: digits-mlp/b/2/cpu")
    assert "killed by SIGKILL" in lines[place + 1]
    assert lines[place + 2].startswith("  to repeat it: pytest ")
    assert "not verified" not in lines, "a failure is not also listed as what this machine cannot run"


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_but_commands_which_are_copied(tmp_path: Path, width: int) -> None:
    lines = lines_of(tmp_path, sample(), width)
    assert max(len(line) for line in lines if "to repeat it:" not in line) <= width
    whole = "\n".join(lines_of(tmp_path / "wide", sample()))
    assert all(command in whole for command in re.findall(r"to repeat it: .*", "\n".join(lines)))


def test_a_narrow_terminal_loses_columns_and_no_verdict(tmp_path: Path) -> None:
    wide, narrow = (lines_of(tmp_path / str(width), sample(), width) for width in (120, 70))
    assert any("efficiency" in line for line in wide)
    assert not any("efficiency" in line for line in narrow)
    for lines in (wide, narrow):
        assert sum(bool(re.match(r"  \S+ +\d cpu  (equivalent|different|inconclusive)", line)) for line in lines) == 15


def test_columns_of_times_are_there_only_where_something_was_timed(tmp_path: Path) -> None:
    assert not any("speed-up" in line for line in lines_of(tmp_path / "a", [record()])[:3])
    assert any("speed-up" in line for line in lines_of(tmp_path / "b", [record(timing=timing(1.7))])[:3])


def test_numbers_end_in_the_same_column(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, [record("a", world_size=2), record("b", world_size=16)])
    ends = {line.index(" cpu") for line in lines if " cpu  equivalent" in line}
    assert len(ends) == 1


def test_a_long_table_shows_only_what_is_not_plainly_equivalent(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, many(200, wrong=3))
    assert sum(" 2 cpu " in line for line in lines) == 3
    assert "  197 more, all equivalent: the page shows them" in lines
    assert len(lines) < 30


def test_many_troubles_are_cut_too_and_counted(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, many(200, wrong=100))
    assert sum(" 2 cpu " in line for line in lines) == MAX_ROWS
    assert "  160 more, 100 of them equivalent: the page shows them" in lines
    assert sum("to repeat it" in line for line in lines) == 10
    assert any(line.startswith("likewise on the page") and "and 87 more" in line for line in lines)
    assert len(lines) < 120


def test_only_words_of_verdicts_are_coloured(tmp_path: Path) -> None:
    painted: list[tuple[str, Conclusion]] = []

    def paint(text: str, tone: Conclusion) -> str:
        painted.append((text, tone))
        return f"<{text}>"

    run = read(write_run(tmp_path / RUN, [*sample(), failed("z")]))
    lines = terminal(run, paint=paint)
    assert set(painted) == {
        ("equivalent", "equivalent"),
        ("different", "different"),
        ("inconclusive", "inconclusive"),
        ("failed", "different"),
        ("not verified", "not-verified"),
    }
    assert any(line.startswith("24 cases: 13 <equivalent>, 1 <different>") for line in lines)
    assert [re.sub("[<>]", "", line) for line in lines] == terminal(run), "colours change no word and no column"


@pytest.mark.parametrize("width", [20, 80])
def test_hostile_strings_do_not_break_a_narrow_table(tmp_path: Path, width: int) -> None:
    assert all(line.isprintable() for line in lines_of(tmp_path, hostile(), width))
