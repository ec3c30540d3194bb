"""The page: complete, self-contained, safe, and never showing a speed-up that is none."""

from __future__ import annotations

import html
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fixtures.sample_records import CRASH, RUN, divergence, hostile, record, sample, skipped, timing, verdict, write_run
from harness.errors import MissingRequirementError, StoreError
from harness.record import Record
from harness.report import summary as summaries
from harness.report import write
from harness.store import RECORDS, read
from harness.timings import Used

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page, and its visible text; unbalanced tags are an error."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in {"script", "style"}:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(folder: Path, records: list[Record], *, ended: bool = True) -> Page:
    return Page(write(write_run(folder / RUN, records, ended=ended)).read_text(encoding="utf-8"))


def test_the_page_opens_with_the_question_and_the_answer(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample())
    summary = summaries.summarise(read(tmp_path / RUN))
    assert page.text.index(summaries.question(summary)) < page.text.index(summaries.answer(summary)) < 400


def test_every_case_verdict_and_reason_is_on_the_page(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample())
    for case in sample():
        assert case.case in page.text
        assert " ".join(case.reason.split()) in page.text
    for word in ("equivalent", "different", "inconclusive", "not verified"):
        assert word in page.text


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
    ).text
    for words in (
        "First divergence: gradients before clipping, step 0, rank 1, conv1.weight.",
        "not shown: this workload does not clip",
        "From plain serial training it differs by design",
        "No signal, only rounding noise in the gradient, so not counted as covered: conv1.bias",
        "Moved too little to be judged: fc2.weight",
        "drifts by 6 %",
        "Every measured epoch. Warm-up, not counted: 984 ms, 451 ms",
        "pytest suites/conformance -k 'digits-mlp/torch-ddp/2/cpu'",
    ):
        assert words in shown


def test_what_each_rank_used_is_on_the_page(tmp_path: Path) -> None:
    used = [
        Used(rank=rank, wall_s=4.0, cpu_s=3.0, memory_bytes=1 << 29, peak_memory_bytes=1 << 30, energy_j=50.0)
        for rank in range(2)
    ]
    page = page_of(tmp_path, [record(timing=timing(1.42, used=tuple(used)))])
    for words in ("used by rank 1", "0.75 cores busy, 512 MiB, at most 1.00 GiB, 50.0 J", "129 samples per joule"):
        assert words in page.text


def test_a_case_that_is_not_equivalent_shows_its_time_struck_and_no_speed_up(tmp_path: Path) -> None:
    page = page_of(tmp_path, [record(conclusion="different", timing=timing(1.42))])
    assert len(page.all("s")) == 2
    assert "no speed-up: different" in page.text
    assert not re.search(r"\dx \[|% \[|A/A [\d]", page.text)
    assert 'class="whisker' not in page.source


def test_an_equivalent_case_shows_its_speed_up_with_interval_and_all_baselines(tmp_path: Path) -> None:
    page = page_of(tmp_path, [record(timing=timing(1.42))])
    assert not page.all("s")
    for words in ("1.42x [1.37, 1.47]", "1.02x [0.99, 1.06]", "1.76x [1.70, 1.82]", "71 % [69, 73]", "A/A 1.00x"):
        assert words in page.text
    assert page.source.count('class="whisker') == 3


def test_colour_is_never_the_only_sign_of_a_verdict(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample())
    cells = re.findall(r'<a class="cell ([a-z-]+)".*?</a>', page.source, re.DOTALL)
    assert set(cells) == {"equivalent", "different", "inconclusive"}
    for verdict_, cell in re.findall(r'<a class="cell ([a-z-]+)"[^>]*>(.*?)</a>', page.source, re.DOTALL):
        assert f'href="#icon-{verdict_}"' in cell
        assert verdict_.replace("-", " ") in cell


def test_every_link_leads_to_a_place_on_the_page_or_to_the_records_beside_it(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample())
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {attributes["href"] for _, attributes in page.elements if "href" in attributes}
    assert {target.removeprefix("#") for target in targets if target} - {RECORDS} <= set(ids)


@pytest.mark.parametrize("records", [sample(), hostile()], ids=["sample", "hostile"])
def test_the_page_needs_no_network_and_runs_no_script_but_its_own(tmp_path: Path, records: list[Record]) -> None:
    page = page_of(tmp_path, records)
    assert len(page.all("script")) == 1
    assert "http" not in page.source.replace("http-equiv", "").lower()
    assert not [
        name for _, attributes in page.elements for name in attributes if name.startswith("on") or name == "src"
    ]
    policy = next(attributes for attributes in page.all("meta") if "http-equiv" in attributes)["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_markup_in_a_name_is_shown_as_text(tmp_path: Path) -> None:
    page = page_of(tmp_path, hostile())
    assert "<script>alert('x')</script>" in page.text
    assert html.escape("<script>alert") in page.source


def test_figures_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    page = page_of(tmp_path, hostile())
    assert "not a number" in page.text
    assert not re.search(r'="[^"]*\b(nan|inf)\b[^"]*"', page.source)


def test_an_empty_run_has_a_page_that_says_so(tmp_path: Path) -> None:
    page = page_of(tmp_path, [], ended=False)
    assert "Nothing was verified: no case was recorded." in page.text
    assert "The run has not ended, or was killed" in page.text
    assert "was judged" not in page.text


def test_a_run_of_one_record_has_a_page(tmp_path: Path) -> None:
    page = page_of(tmp_path, [record()])
    assert "1 of 1 strategy equals serial." in page.text
    assert "Every recorded case was judged." in page.text


def test_a_run_of_only_skipped_cases_lists_them(tmp_path: Path) -> None:
    page = page_of(tmp_path, [skipped("torch-dp", "mnist", 2, "needs 2 CUDA devices, found 0", "cuda")])
    assert "Nothing was verified: 1 strategy could not be judged here." in page.text
    assert "needs 2 CUDA devices, found 0 mnist/torch-dp/2/cuda" in page.text


def test_the_stack_of_a_failed_rank_is_on_the_page(tmp_path: Path) -> None:
    page = page_of(tmp_path, [skipped("horovod-torch", "mnist-cnn", 2, CRASH)])
    assert page.all("pre")
    assert "out of memory? `dmesg` tells" in page.text


def test_lost_records_are_told_on_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / RUN, [record(), record("torch-threads")])
    lines = (run / RECORDS).read_bytes()
    (run / RECORDS).write_bytes(lines[:-50])
    page = Page(write(run).read_text())
    assert "1 damaged line of records.jsonl (line 2) was left out." in page.text
    assert "torch-ddp" in page.text


def test_injected_faults_are_shown_apart_from_the_cases(tmp_path: Path) -> None:
    page = page_of(tmp_path, [record(), record(conclusion="different", fault="sum-instead-of-mean")])
    assert "1 of 1 strategy equals serial." in page.text
    assert page.text.index("Injected faults") < page.text.index("injected fault: sum-instead-of-mean")


def test_a_case_shows_only_what_its_environment_has_of_its_own(tmp_path: Path) -> None:
    usual, unusual = record(), record("torch-threads", environment={"python": "3.11.9", "torch": "9.9.9"})
    page = page_of(tmp_path, [usual, unusual])
    assert page.text.count("Environment, where it is not as in the rest of the run torch 9.9.9") == 1


def test_the_page_is_not_touched_when_it_cannot_be_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / RUN, [record()])
    (run / "index.html").mkdir()
    with pytest.raises(StoreError, match=r"index\.html but Is a directory; .*--ls-report-dir"):
        write(run)
    assert {path.name for path in run.iterdir()} == {"index.html", RECORDS, "run.json"}


def test_a_page_needs_jinja_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingRequirementError, match=r"needs jinja2.*`harness report RUN` writes the page later"):
        write(write_run(tmp_path / RUN, [record()]))
