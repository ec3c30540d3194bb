"""``harness compare``: what names a side, what comes out, and the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.sample_records import hostile, record, sample, timing, write_run
from harness.cli import main


def test_two_strategies_of_one_run_are_named_behind_a_colon(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = write_run(tmp_path / "20261120T101502.345Z-0000", sample())
    for name in (str(run), run.name, "latest"):
        assert main(["compare", f"{name}:torch-ddp", f"{name}:tf-mirrored", "--ls-report-dir", str(tmp_path)]) == 0
        told = capsys.readouterr().out
        assert "tf-mirrored against torch-ddp, two programs" in told
        assert "these are two programs" in told


def test_a_strategy_that_a_run_has_not_got_is_an_error_with_the_nearest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", sample())
    assert main(["compare", f"{run}:torch-dpp", f"{run}:tf-mirrored"]) == 2
    told = capsys.readouterr().err
    assert "unknown strategy in run run 'torch-dpp'; did you mean 'torch-dp' or 'torch-ddp'" in told
    assert main(["compare", f"{run}:torch-ddp", str(run)]) == 2
    assert "write RUN:STRATEGY for each" in capsys.readouterr().err


def test_a_folder_with_a_colon_in_its_name_is_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = write_run(tmp_path / "a:torch-ddp", sample())
    assert main(["compare", str(run), f"{run}:torch-ddp"]) == 2, "a whole run against a strategy"
    assert "expected a strategy on each side or on none but got none, torch-ddp" in capsys.readouterr().err
    assert main(["compare", f"{run}:torch-threads", f"{run}:torch-ddp"]) == 0


def test_three_runs_are_held_against_the_first(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    runs = [
        str(write_run(tmp_path / name, [record(timing=timing(1.7, typical_s=times))]))
        for name, times in (("a", 1.0), ("b", 1.0), ("c", 2.0))
    ]
    assert main(["compare", *runs]) == 0
    assert main(["compare", *runs, "--fail-slower", "5%"]) == 1
    assert "slower: digits-mlp/torch-ddp/2/cpu in C" in capsys.readouterr().out
    assert main(["compare", *runs[:2], "--fail-slower", "50%"]) == 0


def test_one_run_is_not_enough(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "latest"])
    assert "required: RUN[:STRATEGY]" in capsys.readouterr().err


def test_a_page_is_written_where_it_is_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    a, b = (write_run(tmp_path / name, records) for name, records in (("a", sample()), ("b", hostile())))
    page = tmp_path / "page.html"
    assert main(["compare", str(a), str(b), "--html", str(page)]) == 0
    assert capsys.readouterr().out.strip().endswith(str(page))
    assert "alert('x')" not in page.read_text(), "names come as data"
    assert main(["compare", str(a), str(b), "--html", str(tmp_path / "nowhere" / "page.html")]) == 2
    assert "expected to write" in capsys.readouterr().err
