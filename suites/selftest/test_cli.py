from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fixtures.sample_records import record, sample, timing, write_run
from harness.cli import main


def test_list_shows_every_case_with_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("digits-mlp/torch-ddp/2/cpu") and "smoke" in line for line in lines)
    assert any("torch-dp/2/cpu" in line and "nn.DataParallel needs CUDA devices" in line for line in lines)
    assert "can run here" in lines[-1]


def test_list_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    cases = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"id", "workload", "strategy", "world_size", "device", "suite", "markers", "lacks"} == set(cases[0])


def test_doctor_names_a_way_out_for_all_it_finds_amiss(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["doctor", "--ls-report-dir", str(tmp_path)]) == 0
    told = {line.split("  ")[1].strip(): line for line in capsys.readouterr().out.splitlines() if "  " in line}
    compiler = next(line for topic, line in told.items() if "C++" in topic)
    assert compiler.startswith("note")
    assert "install g++" in compiler


def test_report_writes_the_page_again_and_says_where(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_run(tmp_path / "run", sample())
    assert main(["report", str(tmp_path / "run")]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page.read_text().startswith("<!doctype html>")
    assert main(["report", "--markdown", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.startswith("## ")


def test_report_without_a_name_takes_the_latest_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"20260101T00000{n}.000Z-0000", sample()) for n in range(2)]
    assert main(["report", "--ls-report-dir", str(tmp_path)]) == 0
    assert Path(capsys.readouterr().out.strip()).parent == runs[1]


def test_of_a_run_in_a_read_only_folder_the_page_goes_elsewhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", [record()])
    allowed = Path.open

    def refused(self: Path, mode: str = "r", **settings: Any) -> Any:  # root may write everywhere
        if "w" in mode and self.is_relative_to(run):
            raise PermissionError(13, "Permission denied")
        return allowed(self, mode, **settings)

    monkeypatch.setattr(Path, "open", refused)
    assert main(["report", str(run)]) == 2
    assert "Permission denied; free or allow it" in (told := capsys.readouterr().err)
    assert "`harness report RUN --output FILE`" in told
    page, summary = tmp_path / "page.html", tmp_path / "summary.md"
    assert main(["report", str(run), "--output", str(page)]) == 0
    assert main(["report", str(run), "--markdown", "--output", str(summary)]) == 0
    assert page.read_text().startswith("<!doctype html>")
    assert summary.read_text().startswith("## ")
    assert {path.name for path in run.iterdir()} == {"records.jsonl", "run.json"}


def test_compare_tells_two_runs_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_run(tmp_path / "a", sample())
    write_run(tmp_path / "b", sample())
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.strip()


def test_compare_fails_where_a_case_got_slower_than_is_allowed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = str(write_run(tmp_path / "before", [record(timing=timing(1.7, typical_s=1.0))]))
    now = str(write_run(tmp_path / "now", [record(timing=timing(1.7, typical_s=2.0))]))
    assert main(["compare", before, now]) == 0
    assert "slower" in capsys.readouterr().out
    assert main(["compare", before, now, "--fail-slower", "5%"]) == 1
    assert main(["compare", before, now, "--fail-slower", "99%", "--allow", "versions"]) == 1
    assert main(["compare", now, before, "--fail-slower", "5%"]) == 0


@pytest.mark.parametrize("damaged", ["records.jsonl", "run.json"])
def test_compare_does_not_pass_what_it_could_not_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, damaged: str
) -> None:
    before, now = (write_run(tmp_path / name, [record(timing=timing(1.7))]) for name in ("before", "now"))
    assert main(["compare", str(before), str(now), "--fail-slower", "50%"]) == 0
    (now / damaged).write_bytes(b"garbage")
    capsys.readouterr()
    expected = 1 if damaged == "records.jsonl" else 0  # each record says itself where it was taken
    assert main(["compare", str(before), str(now), "--fail-slower", "50%"]) == expected
    told = capsys.readouterr().out
    assert "damaged" in told
    assert ("nothing was compared" in told) == bool(expected)
    (now / "records.jsonl").unlink()
    (now / "run.json").unlink()
    assert main(["compare", str(before), str(now), "--fail-slower", "50%"]) == 2


def test_compare_knows_a_run_by_whatever_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [record(timing=timing(1.7))])
    same = ["compare", str(run), "run", "--ls-report-dir", str(tmp_path)]
    assert main(same) == 0
    assert "A and B are one and the same run" in capsys.readouterr().out
    assert main([*same, "--fail-slower", "5%"]) == 1


@pytest.mark.parametrize("text", ["abc", "5", "0%", "nan", "%"])
def test_a_share_that_is_none_is_refused_in_words(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "a", "b", "--fail-slower", text])
    expected = f"expected a percentage between 0 and 100 %, like 2% or 0.02, but got {text}"
    assert expected in capsys.readouterr().err


def test_an_unknown_run_is_an_error_in_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["report", "nowhere", "--ls-report-dir", str(tmp_path)]) == 2
    assert "unknown run 'nowhere'" in capsys.readouterr().err
