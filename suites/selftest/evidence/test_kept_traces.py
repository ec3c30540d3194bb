"""What a case is judged by is kept while it is judged, every table once, and no verdict is lost where it cannot be."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import kept_run
import pytest

from harness import workloads
from harness.errors import RankError
from harness.evidence import keeping
from harness.evidence.keeping import FOLDER, TABLES
from harness.evidence.manifest import decode_question, placed, require_name
from harness.evidence.question import Question, answer, tables_of
from harness.spec import Case, Fault


def asked(run: Path, strategy: str) -> Question:
    (file,) = (run / FOLDER).glob(f"tiny-{strategy}-2-cpu-*.json")
    return placed(decode_question(file.read_bytes(), str(file)), run / TABLES)


def test_a_case_leaves_what_answers_the_same_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with kept_run.numpy_strategies(), kept_run.runner(tmp_path, run) as own:
        verdicts = {name: own.verdict(kept_run.case(name)) for name in ("numpy-mean", "numpy-sum")}
        told = own.notes.told(kept_run.case(), workloads.get("tiny"))
    assert (run / told).is_file()
    assert {name: verdict.conclusion for name, verdict in verdicts.items()} == {
        "numpy-mean": "equivalent",
        "numpy-sum": "different",
    }
    for name, verdict in verdicts.items():
        question = asked(run, name)
        assert question.verdict == verdict
        assert answer(question) == verdict


def test_references_that_cases_share_are_kept_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with kept_run.numpy_strategies(), kept_run.runner(tmp_path, run) as own:
        for name in ("numpy-mean", "numpy-sum"):
            own.verdict(kept_run.case(name))
    mean, wrong = (set(tables_of(asked(run, name))) for name in ("numpy-mean", "numpy-sum"))
    assert mean & wrong
    assert len(list((run / TABLES).iterdir())) == len(mean | wrong)


def test_nothing_is_kept_unless_asked(tmp_path: Path) -> None:
    with kept_run.numpy_strategies(), kept_run.runner(tmp_path / "scratch", None) as own:
        assert own.verdict(kept_run.case()).equivalent
        assert own.notes.told(kept_run.case(), workloads.get("tiny")) == ""


def test_where_nothing_more_fits_the_verdict_survives_and_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, copy = tmp_path / "run", keeping._copy
    copied: list[Path] = []

    def full(file: Path, kept: Path) -> None:
        if len(copied) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copied.append(kept)
        copy(file, kept)

    monkeypatch.setattr(keeping, "_copy", full)
    with kept_run.numpy_strategies(), kept_run.runner(tmp_path, run) as own:
        assert own.verdict(kept_run.case()).equivalent
        assert own.notes.told(kept_run.case(), workloads.get("tiny")) == "not kept: No space left on device"
    assert [path for path in run.rglob("*") if path.is_file()] == []


def test_a_case_whose_ranks_die_leaves_no_question_and_the_next_case_its_own(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with kept_run.numpy_strategies(), kept_run.runner(tmp_path, run) as own:
        sys.modules["numpy_strategies"].misbehaving("dies")
        with pytest.raises(RankError):
            own.verdict(kept_run.case("numpy-dies"))
        own.verdict(kept_run.case())
    assert answer(asked(run, "numpy-mean")).equivalent
    assert len(list((run / FOLDER).glob("*.json"))) == 1


def test_the_same_case_with_a_fault_or_shaken_is_another_question() -> None:
    case, workload = kept_run.case(), workloads.get("digits-mlp")
    names = {
        keeping.name_of(case, workload, fault, fuzz)
        for fault in (None, Fault(name="sum-for-mean"), Fault(name="sum-for-mean", settings={"tensor": "last"}))
        for fuzz in (None, 1)
    }
    assert len(names) == 6
    assert all(name.startswith("tiny-numpy-mean-2-cpu-") for name in names)


def test_a_name_that_no_file_system_takes_becomes_one_that_every_one_takes() -> None:
    odd = Case(workload="..", strategy="../<script>\u0000" + "x" * 300, world_size=2)
    name = keeping.name_of(odd, workloads.get("digits-mlp"), None, None)
    assert len(name) < 100
    assert name.startswith("script-x")
    require_name(f"{FOLDER}/{name}.json")
