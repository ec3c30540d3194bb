"""The page: complete, self-contained, safe, and never showing a speed-up that is none."""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path

import msgspec
import pytest
from written_page import BESIDE, Page, numbers, page_of, strings

from fixtures.sample_records import CRASH, RUN, divergence, hostile, record, sample, skipped, timing, verdict, write_run
from harness import processes
from harness.errors import MissingRequirementError, StoreError
from harness.record import Record
from harness.report import headline, words, write
from harness.report import summary as summaries
from harness.report.html import page as pages
from harness.report.html import payload
from harness.store import RECORDS, Run, RunInfo, read
from harness.timings import Used


def test_the_page_opens_with_the_question_and_the_answer(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample())
    summary = summaries.summarise(read(tmp_path / RUN))
    assert page.text.index(headline.question(summary)) < page.text.index(headline.answer(summary)) < 400


def test_the_answer_and_what_was_not_verified_are_read_without_the_script(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample())
    summary = summaries.summarise(read(tmp_path / RUN))
    for _tone, word, number in summaries.counted(summary):
        assert f"{number} {word}" in page.text
    for remark in summaries.remarks(summary):
        assert f"{remark}." in page.text
    reasons = summaries.not_verified(summary)
    assert reasons
    for reason, names in reasons:
        assert " ".join([reason, *names]) in page.text
    assert "results.json beside it" in page.text, "what a reader without scripts does"


def test_every_case_verdict_and_reason_is_on_the_page(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample())
    lines, details = page.blobs["index"]["lines"], page.details
    assert len(lines) == len(details) == len(sample())
    shown = {
        (line["case"], line["fault"], line["verdict"], f"{detail['lead']}\n{detail['evidence']}".strip())
        for line, detail in zip(lines, details, strict=True)
    }
    assert shown == {(case.case, case.fault, words.verdict(case), case.reason) for case in sample()}


def test_the_matrix_names_the_case_of_every_cell(tmp_path: Path) -> None:
    index = page_of(tmp_path, sample()).blobs["index"]
    seen = set()
    for strategy, ranks, cells in index["matrix"]:
        assert len(cells) == len(index["columns"])
        for workload, number in zip(index["columns"], cells, strict=True):
            if number is not None:
                line = index["lines"][number]
                assert (line["strategy"], line["workload"], line["fault"]) == (strategy, workload, None)
                assert ranks.startswith(f"{line['ranks']} {line['device'].upper()} rank")
                seen.add(number)
    assert seen == {at for at, line in enumerate(index["lines"]) if not line["fault"]}


def test_the_evidence_of_a_case_is_on_the_page(tmp_path: Path) -> None:
    judged = verdict(
        "different",
        reference="per-shard-batchnorm",
        plain=divergence(6e11, "loss", 1),
        no_signal=("conv1.bias",),
        unresolved=("fc2.weight",),
    )
    shown = page_of(
        tmp_path, [record(conclusion="different", evidence=judged, timing=timing(1.4, warnings=("drifts by 6 %",)))]
    ).all_text
    for told in (
        "First divergence: gradients before clipping, step 0, rank 1, conv1.weight.",
        "this workload does not clip",
        "From plain serial training it differs by design",
        "No signal, only rounding noise in the gradient, so not counted as covered: conv1.bias",
        "Moved too little to be judged: fc2.weight",
        "drifts by 6 %",
        "Warm-up of the parallel run, not counted: 984 ms, 451 ms",
        "pytest suites/conformance -k 'digits-mlp/torch-ddp/2/cpu'",
    ):
        assert told in shown


def test_what_each_rank_used_is_on_the_page(tmp_path: Path) -> None:
    used = [
        Used(rank=rank, wall_s=4.0, cpu_s=3.0, memory_bytes=1 << 29, peak_memory_bytes=1 << 30, energy_j=50.0)
        for rank in range(2)
    ]
    (detail,) = page_of(tmp_path, [record(timing=timing(1.42, used=tuple(used)))]).details
    facts = dict(detail["settings"])
    assert facts["used by rank 1"] == "0.75 cores busy, 512 MiB, at most 1.00 GiB, 50.0 J"
    assert facts["energy"] == "129 samples per joule"


SPEEDUP = re.compile(r"\dx \[|% \[")


@pytest.mark.parametrize(
    "case",
    [
        record(conclusion="different", timing=timing(1.42)),
        record(conclusion="inconclusive", timing=timing(1.42)),
        record(timing=timing(1.42, struck="ranks shared cores")),
        record(conclusion="different", timing=timing(1.42), fault="sum-instead-of-mean"),
    ],
    ids=["different", "inconclusive", "struck", "fault"],
)
def test_a_struck_case_shows_its_time_struck_and_a_speed_up_nowhere(case: Record, tmp_path: Path) -> None:
    page = page_of(tmp_path, [case])
    (line,), (detail,) = page.blobs["index"]["lines"], page.details
    assert case.timing is not None
    assert detail["struck"] == [words.seconds(words.epoch_s(case.timing)), words.struck(case)]
    assert (line["speedup"], line["figure"]) == (None, "")
    assert not {"ratios", "losses"} & {figure["kind"] for figure in detail["figures"]}
    for group in page.blobs["sections"]["times"]:
        (timed,) = group["cases"]
        assert (timed["samples"], timed["efficiency"], timed["struck"]) == ("", "", words.struck(case))
        assert not any(over["speedup"] or over["figure"] for over in timed["over"])
    assert not [view for view in page.blobs["sections"]["scaling"] if view["sizes"] or view["law"]]
    assert not [told for told in [page.text, *strings(page.blobs)] if SPEEDUP.search(told) or "1.42" in told]
    assert not {1.42, 0.71} & set(numbers(page.blobs))


def test_an_equivalent_case_shows_its_speed_up_with_interval_and_all_baselines(tmp_path: Path) -> None:
    """The negative control of the test above."""
    page = page_of(tmp_path, [record(timing=timing(1.42))])
    assert page.details[0]["struck"] is None
    for told in ("1.42x [1.37, 1.47]", "1.02x [0.99, 1.06]", "1.76x [1.70, 1.82]", "71 % [69, 73]", "A/A 1.00x"):
        assert told in page.all_text
    assert "1.42x [1.37, 1.47]" in page.text, "it is the answer"
    assert {1.42, 0.71} <= set(numbers(page.blobs))
    assert "ratios" in {figure["kind"] for figure in page.details[0]["figures"]}


def test_every_link_leads_to_a_place_on_the_page_or_to_what_lies_beside_it(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample())
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {attributes["href"] for _, attributes in page.elements if "href" in attributes}
    assert {target.removeprefix("#") for target in targets if target} - BESIDE <= set(ids)
    assert all((tmp_path / RUN / name).is_file() for name in BESIDE)
    lines = page.blobs["index"]["lines"]
    for group in page.blobs["sections"]["times"]:
        for timed in group["cases"]:
            line = lines[timed["line"]]
            assert (line["strategy"], line["ranks"]) == (timed["strategy"], timed["ranks"])


def test_every_fault_of_the_matrix_leads_to_its_case(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample())
    listed = {(line["case"], line["fault"]) for line in page.blobs["index"]["lines"]}
    rows = page.blobs["sections"]["faults"]["rows"]
    assert {row["fault"] for row in rows} == {case.fault for case in sample() if case.fault}
    for row in rows:
        for cell in row["cells"]:
            assert cell is None or (cell["cases"][0], row["fault"]) in listed


def test_a_word_of_the_tally_filters_to_cases_that_there_are(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample())
    asked = [attributes["data-verdict"] for attributes in page.all("a") if "data-verdict" in attributes]
    assert asked
    assert set(asked) == {line["verdict"] for line in page.blobs["index"]["lines"] if not line["fault"]}


def test_colour_is_never_the_only_sign_of_a_verdict(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample())
    icons = {attributes["id"] for attributes in page.all("symbol")}
    for line in page.blobs["index"]["lines"]:
        assert line["verdict"]
        assert f"icon-{line['tone']}" in icons


@pytest.mark.parametrize("records", [[record()], sample()], ids=["one", "sample"])
def test_an_equal_run_makes_an_equal_page(tmp_path: Path, records: list[Record]) -> None:
    run = write_run(tmp_path / RUN, records)
    assert write(run).read_bytes() == write(run).read_bytes()


def test_an_empty_run_has_a_page_that_says_so(tmp_path: Path) -> None:
    page = page_of(tmp_path, [], ended=False)
    assert "Nothing was verified: no case was recorded." in page.text
    assert "The run has not ended, or was killed" in page.text
    assert "was judged" not in page.text
    assert page.blobs["index"]["lines"] == page.details == []


def test_a_run_of_one_record_has_a_page(tmp_path: Path) -> None:
    page = page_of(tmp_path, [record()])
    assert "1 of 1 strategy equals serial." in page.text
    assert "Every case that was asked for was judged." in page.text
    assert not {"times", "scaling"} & {attributes.get("id") for attributes in page.all("section")}


def test_a_run_of_only_skipped_cases_lists_them(tmp_path: Path) -> None:
    page = page_of(tmp_path, [skipped("torch-dp", "mnist", 2, "needs 2 CUDA devices, found 0", "cuda")])
    assert "Nothing was verified: 1 strategy could not be judged here." in page.text
    assert "needs 2 CUDA devices, found 0 mnist/torch-dp/2/cuda" in page.text
    assert page.blobs["index"]["matrix"] == [["torch-dp", "2 CUDA ranks", [0]]]


def test_what_failed_and_what_did_not_run_is_told_apart_from_what_was_not_verified(tmp_path: Path) -> None:
    failed = msgspec.structs.replace(skipped("torch-dp", "w", 2, "rank 1 died"), failed=True)
    records = [record(), failed, skipped("torch-fsdp", "w", 2, "no GPU")]
    run = Run(directory=tmp_path, info=RunInfo(id=RUN, num_planned=10), records=tuple(records))
    page = Page(pages.render(run))
    assert "Failed rank 1 died (1 case: w/torch-dp/2/cpu)" in page.text
    assert "Not verified here 7 cases have not run yet no GPU (1 case: w/torch-fsdp/2/cpu)" in page.text
    assert "Every case that was asked for was judged." not in page.text


def test_a_name_never_turns_a_sentence_around(tmp_path: Path) -> None:
    page = page_of(tmp_path, [record("ddp\u202e x78.1 retsaf", timing=timing(1.8))])
    assert "\u202e" not in page.text
    assert "ddp? x78.1 retsaf 1.80x" in page.text


def test_the_stack_of_a_failed_rank_is_on_the_page(tmp_path: Path) -> None:
    (detail,) = page_of(tmp_path, [skipped("horovod-torch", "mnist-cnn", 2, CRASH)]).details
    assert detail["lead"].startswith("RankFailure: rank 1 was killed by SIGKILL at step 3")
    assert detail["evidence"].endswith("out of memory? `dmesg` tells whether the kernel killed it")


def test_lost_records_are_told_on_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / RUN, [record(), record("torch-threads")])
    lines = (run / RECORDS).read_bytes()
    (run / RECORDS).write_bytes(lines[:-50])
    page = Page(write(run).read_text())
    assert "1 damaged line of records.jsonl (line 2) was left out." in page.text
    assert [line["strategy"] for line in page.blobs["index"]["lines"]] == ["torch-ddp"]


def test_injected_faults_are_apart_from_the_cases(tmp_path: Path) -> None:
    page = page_of(tmp_path, [record(), record(conclusion="different", fault="sum-instead-of-mean")])
    assert "1 of 1 strategy equals serial." in page.text
    assert "Of 1 injected fault 1 came out different, as each must." in page.text
    index = page.blobs["index"]
    assert {line["fault"] for line in index["lines"]} == {None, "sum-instead-of-mean"}
    (row,) = index["matrix"]
    assert [index["lines"][number]["fault"] for number in row[2]] == [None]


def test_a_case_shows_only_what_its_environment_has_of_its_own(tmp_path: Path) -> None:
    usual, unusual = record(), record("torch-threads", environment={"python": "3.11.9", "torch": "9.9.9"})
    page = page_of(tmp_path, [usual, unusual])
    shown = {
        line["strategy"]: detail["environment"]
        for line, detail in zip(page.blobs["index"]["lines"], page.details, strict=True)
    }
    assert shown == {"torch-ddp": [], "torch-threads": [["torch", "9.9.9"]]}
    assert "torch 2.15.0" in page.text


@pytest.mark.parametrize(("ended", "refresh_s"), [(False, 5.0), (True, None)], ids=["running", "ended"])
def test_only_the_page_of_a_run_that_goes_on_loads_itself_again(
    ended: bool, refresh_s: float | None, tmp_path: Path
) -> None:
    run = write_run(tmp_path / RUN, [record()], ended=ended)
    assert Page(write(run, refresh_s=5).read_text()).blobs["index"]["refresh_s"] == refresh_s
    assert Page(write(run).read_text()).blobs["index"]["refresh_s"] is None, "unless it is asked for, never"


def test_a_page_elsewhere_leaves_the_run_as_it_is(tmp_path: Path) -> None:
    run = write_run(tmp_path / RUN, [record()])
    assert write(run, output=tmp_path / "page.html") == tmp_path / "page.html"
    assert {path.name for path in run.iterdir()} == {RECORDS, "run.json"}
    assert write(read(run)).read_bytes() == (tmp_path / "page.html").read_bytes()


def test_the_page_is_not_touched_when_it_cannot_be_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / RUN, [record()])
    (run / "index.html").mkdir()
    with pytest.raises(StoreError, match=r"index\.html but Is a directory; .*--ls-report-dir"):
        write(run)
    assert (run / "index.html").is_dir()
    assert not [path for path in run.iterdir() if "tmp" in path.name]


def test_a_page_needs_jinja_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingRequirementError, match=r"needs jinja2.*`harness report RUN` writes the page later"):
        write(write_run(tmp_path / RUN, [record()]))


def test_markup_in_a_name_is_shown_as_text(tmp_path: Path) -> None:
    page = page_of(tmp_path, hostile())
    assert "<script>alert('x')</script>" in page.text
    assert html.escape("<script>alert") in page.source
    assert "<script>alert" not in page.source
    assert any("<script>alert('x')</script>" in line["case"] for line in page.blobs["index"]["lines"])


def test_figures_that_are_no_numbers_are_named_in_words_and_null_in_data(tmp_path: Path) -> None:
    page = page_of(tmp_path, hostile())
    assert "not a number" in page.all_text
    assert not re.search(r'="[^"]*\b(nan|inf)\b[^"]*"', page.source)
    assert all(abs(value) <= sys.float_info.max for value in numbers(page.blobs))
    first = next(detail for detail in page.details if detail["found"])
    curve = next(figure for figure in first["figures"] if figure["kind"] == "deviation")
    assert curve["data"]["points"] == [[None, 0.0, None], [0.0, 0.0, 0.0]]


def test_a_page_says_how_many_details_were_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [record(f"strategy-{number}") for number in range(5)]
    assert "left out" not in page_of(tmp_path, records).text
    monkeypatch.setattr(payload, "CHUNK", 2)
    monkeypatch.setattr(payload, "ROOM", 0)
    page = page_of(tmp_path / "small", records)
    assert "Details of 5 cases, the least grave, are left out" in page.text
    assert len(page.blobs["index"]["lines"]) == 5
    assert page.details == []


def test_a_page_of_a_killed_run_does_not_load_itself_again(tmp_path: Path) -> None:
    gone = write_run(tmp_path / RUN, sample(), ended=False, process=f"{processes.name()}1")
    assert Page(write(gone, refresh_s=5).read_text(encoding="utf-8")).blobs["index"]["refresh_s"] is None
