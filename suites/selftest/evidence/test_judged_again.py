"""A bundle is judged again by this version's oracle: what agrees counts here, and no pass is taken on trust."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kept_run
import msgspec
import numpy as np
import pytest

from harness import cli, store
from harness.claims import PublishedClaim
from harness.evidence import command, packing, unpacking
from harness.evidence.keeping import FOLDER
from harness.record import Record
from harness.report import summary
from harness.report.sections import cases
from harness.store import Journal, RunInfo

MEAN, SUM, ALONE = "tiny/numpy-mean/2/cpu", "tiny/numpy-sum/2/cpu", "tiny/numpy-mean/1/cpu"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made")
    return kept_run.make(place / "reports", place / "scratch")


@pytest.fixture(scope="module")
def bundle(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packing.pack(store.read(made), tmp_path_factory.mktemp("bundle") / "sound.lockstep").file


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "run"))


class Judge:
    """``harness judge``, whose runs go to a folder of the test's own."""

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.reports = place / "reports"
        self._capsys = capsys
        self.status = -1
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> list[Record]:
        """Judge; return the records of the newest run, in the order in which they were written."""
        self.status = cli.main(["judge", *map(str, arguments), "--ls-report-dir", str(self.reports)])
        self.out, self.err = self._capsys.readouterr()
        return list(store.read("latest", self.reports).records) if self.reports.exists() else []

    def told(self, case: str) -> str:
        """Return the line about a case."""
        return next(line.strip() for line in self.out.splitlines() if line.strip().startswith(case))


@pytest.fixture
def judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Judge:
    return Judge(tmp_path, capsys)


def packed(run: Path) -> Path:
    return packing.pack(store.read(run), run.with_suffix(".lockstep")).file


def by_case(records: list[Record]) -> dict[str, Record]:
    return {record.case: record for record in records}


def test_a_sound_bundle_agrees_and_its_records_say_where_they_come_from(bundle: Path, made: Path, judge: Judge) -> None:
    records = by_case(judge(bundle))
    assert judge.status == 0
    assert judge.told(MEAN).startswith(f"{MEAN}: agrees: equivalent: equal to serial")
    assert judge.told(SUM).startswith(f"{SUM}: agrees: different")
    assert "4 cases: 3 agree, 0 disagree, 1 not judged again" in judge.out
    assert {case: record.verdict for case, record in records.items()} == {
        MEAN: "equivalent",
        SUM: "different",
        ALONE: "not-verified",
        "tiny/numpy-mean/8/cpu": "not-verified",
    }
    before = by_case(list(store.read(made).records))
    assert records[MEAN].judged_from == unpacking.checksum(bundle)
    assert records[MEAN].environment == kept_run.ELSEWHERE
    assert records[SUM].evidence == before[SUM].evidence
    info = store.read("latest", judge.reports).info
    assert (info.exit_status, info.environment["python"]) == (0, sys.version.split()[0])
    assert "gpu_model" not in info.environment or info.environment["gpu_model"] != "Imagined 9000"


def test_the_page_says_what_was_judged_again_and_where_it_was_made(bundle: Path, judge: Judge) -> None:
    records = by_case(judge(bundle))
    told = " ".join(cases.detail(records[MEAN], {}).remarks)
    assert f"Judged again here from a bundle ({unpacking.checksum(bundle)[:12]}) made on " in told
    assert "Linux-x86_64, Imagined 9000." in told
    remarks = summary.remarks(summary.summarise(store.read("latest", judge.reports)))
    assert "3 cases judged again here from a bundle, trained on Linux-x86_64, Imagined 9000" in remarks
    assert (store.latest(judge.reports) / "index.html").is_file()


def test_a_record_that_was_made_equivalent_is_caught(run: Path, judge: Judge) -> None:
    record = next(one for one in store.read(run).records if one.case == SUM)
    assert record.evidence is not None
    evidence = msgspec.structs.replace(record.evidence, conclusion="equivalent", divergence=None)
    kept_run.rewrite(run, "numpy-sum", verdict="equivalent", evidence=evidence, divergence=None)
    records = by_case(judge(packed(run)))
    assert judge.status == 1
    assert judge.told(SUM).startswith(f"{SUM}: disagrees: different")
    assert judge.told(SUM).endswith("its record says equivalent")
    assert records[SUM].verdict == "different"
    assert records[SUM].divergence is not None


def test_a_difference_is_not_lost_where_the_traces_show_none(run: Path, judge: Judge) -> None:
    kept_run.rewrite(run, "numpy-mean", verdict="different")
    records = by_case(judge(packed(run)))
    assert judge.status == 1
    assert records[MEAN].verdict == "different"
    assert "judged again from its traces it is equivalent" in records[MEAN].reason


def test_a_single_rank_that_was_made_equivalent_is_caught(run: Path, judge: Judge) -> None:
    place = next(i for i, one in enumerate(store.read(run).records) if one.case == ALONE)
    records = list(store.read(run).records)
    records[place] = msgspec.structs.replace(records[place], verdict="equivalent")
    (run / store.RECORDS).write_bytes(b"".join(store.encode(record) + b"\n" for record in records))
    assert by_case(judge(packed(run)))[ALONE].verdict == "inconclusive"
    assert judge.status == 1


def test_the_traces_of_another_case_prove_nothing(run: Path, judge: Judge) -> None:
    records = by_case(list(store.read(run).records))
    kept_run.rewrite(run, "numpy-sum", verdict="equivalent", traces=records[MEAN].traces)
    found = by_case(judge(packed(run)))
    assert judge.status == 1
    assert found[SUM].verdict == "inconclusive"
    assert f"its traces are those of {MEAN}" in found[SUM].reason


def test_what_cannot_be_judged_again_does_not_count_as_equal_here(run: Path, judge: Judge) -> None:
    kept_run.rewrite(run, "numpy-mean", traces="", judged_from="f" * 64)
    records = by_case(judge(packed(run)))
    assert judge.status == 0
    assert records[MEAN].verdict == "not-verified"
    assert "its traces were not kept" in records[MEAN].reason
    assert not records[MEAN].judged_from
    # What lies in the bundle is judged all the same.
    assert sum(line.strip().startswith(MEAN) for line in judge.out.splitlines()) == 2


def test_a_bundle_without_traces_verifies_nothing(run: Path, judge: Judge) -> None:
    shutil.rmtree(run / FOLDER)
    records = by_case(judge(packed(run)))
    assert judge.status == 1
    assert records[MEAN].verdict == "not-verified"
    # A difference without its traces is still a difference.
    assert records[SUM].verdict == "different"


def test_a_refused_bundle_writes_nothing_even_beside_a_sound_one(bundle: Path, judge: Judge, tmp_path: Path) -> None:
    broken = tmp_path / "broken.lockstep"
    broken.write_bytes(bundle.read_bytes()[:-100])
    judge(bundle, broken)
    assert judge.status == 2
    assert str(broken) in judge.err
    assert not judge.reports.exists()


def test_of_two_bundles_the_one_that_can_be_judged_speaks(bundle: Path, run: Path, judge: Judge) -> None:
    shutil.rmtree(run / FOLDER)
    records = judge(packed(run), bundle)
    assert judge.status == 0
    assert f"left out, as there is a verdict as grave already: {SUM}" in judge.out
    assert by_case(store.merge(records))[MEAN].verdict == "equivalent"


def test_a_bundle_fills_what_a_run_could_not_verify_itself_and_adds_what_is_graver(bundle: Path, judge: Judge) -> None:
    info = RunInfo(id="20261121T000000.000Z-0000", environment={"cpu_model": "small"})
    journal = Journal(judge.reports / info.id, info)
    with kept_run.numpy_strategies():
        skipped = store.not_verified(info.id, kept_run.case(), framework="plain", reason="needs 2 CUDA devices")
    own = by_case(list(store.read(unpacked(bundle, judge.reports.parent)).records))[SUM]
    journal.append(skipped)
    journal.append(msgspec.structs.replace(own, verdict="inconclusive", reason="judged here", traces=""))
    alone = msgspec.structs.replace(own, case=ALONE, verdict="inconclusive", reason="judged here", traces="")
    journal.append(alone)
    journal.close()
    judge(bundle, "--into", info.id)
    assert judge.status == 0
    assert f"left out, as there is a verdict as grave already: {ALONE}" in judge.out
    assert f"graver than the verdict that was there, and so added: {SUM}" in judge.out
    judge(bundle, "--into", info.id)
    assert judge.status == 0
    assert f"left out, as there is a verdict as grave already: {MEAN}, {SUM} and {ALONE}" in judge.out
    merged = by_case(store.merge(store.read(info.id, judge.reports).records))
    assert (merged[MEAN].verdict, merged[MEAN].environment) == ("equivalent", kept_run.ELSEWHERE)
    assert (merged[SUM].verdict, merged[SUM].judged_from) == ("different", unpacking.checksum(bundle))
    assert (merged[ALONE].verdict, merged[ALONE].judged_from) == ("inconclusive", "")
    assert sum(record.case == MEAN for record in store.read(info.id, judge.reports).records) == 2
    assert store.read(info.id, judge.reports).info == info


def test_a_difference_from_elsewhere_is_not_lost_where_a_run_of_this_machine_saw_none(
    bundle: Path, judge: Judge
) -> None:
    info = RunInfo(id="20261121T000000.000Z-0000", ended="x", exit_status=0)
    own = by_case(list(store.read(unpacked(bundle, judge.reports.parent)).records))
    here = msgspec.structs.replace(own[SUM], run=info.id, verdict="equivalent", evidence=own[MEAN].evidence, traces="")
    write(judge.reports / info.id, info, here)
    judge(bundle, "--into", info.id)
    (merged,) = (one for one in store.merge(store.read(info.id, judge.reports).records) if one.case == SUM)
    assert merged.verdict == "different"


def test_a_case_that_failed_here_is_not_made_up_for_by_a_pass_elsewhere(bundle: Path, judge: Judge) -> None:
    info = RunInfo(id="20261121T000000.000Z-0000", ended="x", exit_status=1)
    own = by_case(list(store.read(unpacked(bundle, judge.reports.parent)).records))[MEAN]
    died = {"verdict": "not-verified", "failed": True, "reason": "rank 1 died", "evidence": None, "traces": ""}
    write(judge.reports / info.id, info, msgspec.structs.replace(own, run=info.id, **died))
    judge(bundle, "--into", info.id)
    assert f"left out, as there is a verdict as grave already: {MEAN}" in judge.out


def test_what_is_said_of_the_run_that_is_added_to_stays_as_it_is(
    bundle: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = RunInfo(id="20261121T000000.000Z-0000", started=store.utc_now(), process="x")
    journal = Journal(judge.reports / goes_on.id, goes_on)
    again = command._again

    def ends_meanwhile(*given: Any) -> Any:
        found = again(*given)
        journal.finish(0)
        return found

    monkeypatch.setattr(command, "_again", ends_meanwhile)
    judge(bundle, "--into", goes_on.id)
    assert store.read(goes_on.id, judge.reports).info.exit_status == 0
    monkeypatch.undo()
    described = journal.directory / store.INFO
    described.write_bytes(described.read_bytes()[:-20])
    judge(bundle, "--into", goes_on.id)
    assert "run.json is damaged" in store.read(goes_on.id, judge.reports).losses[0]


def test_several_records_of_a_case_are_one_case(made: Path, run: Path, judge: Judge) -> None:
    records = store.read(made).records
    again = msgspec.structs.replace(records[0], traces="", evidence=None, verdict="not-verified", reason="not asked")
    (run / store.RECORDS).write_bytes(b"".join(store.encode(one) + b"\n" for one in (*records, records[0], again)))
    judge(packed(run))
    assert "4 cases: 3 agree, 0 disagree, 1 not judged again" in judge.out


def write(folder: Path, info: RunInfo, *records: Record) -> None:
    journal = Journal(folder, info)
    for record in records:
        journal.append(record)
    journal.close()


def unpacked(bundle: Path, place: Path) -> Path:
    folder = place / "unpacked"
    folder.mkdir()
    unpacking.unpack(bundle, folder)
    return folder


def test_claims_of_studies_are_packed_and_not_taken_for_judged(run: Path, judge: Judge) -> None:
    claim = PublishedClaim(
        study="x",
        id="x",
        text="x",
        quantity="x",
        source="x",
        where="x",
        published=1.0,
        kind="measured",
        holds="not tested",
        reason="no GPU",
    )
    (run / store.CLAIMS).write_bytes(store.encode(claim) + b"\n")
    judge(packed(run))
    assert judge.status == 0
    assert "left out, as no traces tell of them: 1 published claim" in judge.out
    assert store.read("latest", judge.reports).claims == ()


def test_an_oracle_that_stumbles_over_traces_says_so(run: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(**_given: object) -> None:
        raise IndexError("index 7 is out of bounds")

    monkeypatch.setattr("harness.oracles.parity.judge", stumble)
    records = by_case(judge(packed(run)))
    assert judge.status == 1
    assert "IndexError: index 7 is out of bounds" in records[MEAN].reason
    assert records[MEAN].verdict == "not-verified"


def test_a_rank_that_holds_no_numbers_differs(run: Path, judge: Judge) -> None:
    opened = kept_run.take_apart(packed(run))
    name = opened.members[opened.place_of(f"{FOLDER}/tiny-numpy-mean-2")][0].name
    question = opened.question(name)
    leg = question.trainings[0].legs[0]
    shown = leg.ranks[0].rungs["parameters"]
    file = io.BytesIO()
    np.save(file, np.full((len(shown.steps), sum(one.num_values for one in shown.tensors)), np.nan))
    spoilt = msgspec.structs.replace(shown, file=opened.add_table(file.getvalue()))
    rank = msgspec.structs.replace(leg.ranks[0], rungs=leg.ranks[0].rungs | {"parameters": spoilt})
    leg = msgspec.structs.replace(leg, ranks=(rank, *leg.ranks[1:]))
    trainings = (msgspec.structs.replace(question.trainings[0], legs=(leg,)),)
    opened.change(name, store.encode(msgspec.structs.replace(question, trainings=trainings)), told=True)
    records = by_case(judge(opened.write(run.with_name("spoilt.lockstep"))))
    assert judge.status == 1
    assert judge.told(MEAN).startswith(f"{MEAN}: disagrees: different")
    assert records[MEAN].verdict == "different"


def test_what_a_stranger_wrote_does_not_steer_the_terminal_or_the_page(run: Path, judge: Judge) -> None:
    name = "\x1b[31m<script>alert(1)</script>"
    kept_run.rewrite(run, "numpy-sum", case=name, strategy=name, reason=name, traces="")
    judge(packed(run))
    assert "\x1b" not in judge.out
    assert "?[31m<script>" in judge.out
    assert "<script>alert(1)" not in (store.latest(judge.reports) / "index.html").read_text()


def test_judging_needs_no_framework(bundle: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from harness import cli\n"
        f"status = cli.main(['judge', {str(bundle)!r}, '--ls-report-dir', {str(tmp_path / 'reports')!r}])\n"
        "loaded = {'torch', 'tensorflow', 'keras', 'horovod', 'deepspeed'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "sys.exit(status)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_packing_by_command_tells_what_and_its_sum(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bundle", str(made)]) == 0
    told = capsys.readouterr().out
    file = tmp_path / f"{made.name}.lockstep"
    assert f"{file.name}: 4 cases, 3 can be judged again" in told
    assert "not to be judged again: it never came to a verdict: needs 8 cores (1 case: tiny/numpy-mean/8/cpu)" in told
    assert f"sha256 {unpacking.checksum(file)}" in told
