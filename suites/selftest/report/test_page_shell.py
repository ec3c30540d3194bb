"""What a page is made of: it loads nothing, runs no script but its own, and its parts fit each other."""

from __future__ import annotations

import base64
import hashlib
import re
import typing
from pathlib import Path
from typing import Any

import pytest
from written_page import BESIDE, Page, page_of

import harness.report
from fixtures.sample_records import hostile, record, sample
from harness.claims import Holds, Kind
from harness.record import Conclusion, Record
from harness.report import compare
from harness.report.html import page as pages
from harness.report.sections import fault_matrix, figures, findings
from harness.store import Run, RunInfo
from harness.timings import BaselineName, Outcome, Part

HERE = Path(harness.report.__file__).parent / "html"
OWN = {path.name: path.read_text(encoding="utf-8") for path in sorted((HERE / "script").iterdir())}
LIBRARIES = {path.name: path.read_text(encoding="utf-8") for path in sorted((HERE / "vendor").glob("*.js"))}
STYLE = (HERE / "templates" / "style.css").read_text(encoding="utf-8")
TEMPLATES = "".join(path.read_text(encoding="utf-8") for path in (HERE / "templates").glob("*.j2"))
# What makes an element load something, and what makes one run something.
LOADS = {"src", "srcset", "data", "poster", "background", "action", "formaction", "ping", "manifest", "xlink:href"}
LOADING = {"link", "img", "iframe", "object", "embed", "audio", "video", "source", "base", "frame", "image", "feimage"}


def complaints(page: Page) -> list[str]:
    """Return what on a page loads something from elsewhere, or runs what is not the page's own."""
    found = [
        f"<{tag} {name}>"
        for tag, attributes in page.elements
        for name in attributes
        if name.startswith("on") or name in LOADS
    ]
    found += [f"<{tag}>" for tag, _ in page.elements if tag in LOADING]
    for _, attributes in page.elements:
        href = attributes.get("href") or ""
        found += [href] if not href.startswith("#") and href not in {"", *BESIDE} else []
        found += re.findall(r"url\(|@import", attributes.get("style") or "")
    found += re.findall(r"url\([^)]*\)|@import[^;]*|https?:", page.styles)
    policy = policy_of(page)
    for attributes, content in page.scripts:
        if attributes.get("type") in {None, "module"}:
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            found += [] if f"'sha256-{digest}'" in policy else [f"a script that is not in the policy: {content[:60]}"]
        elif attributes.get("type") != "application/gzip" or not re.fullmatch(r"[\w+/=]+", content):
            found.append(f"no data: {attributes} {content[:60]}")
    return found


def policy_of(page: Page) -> str:
    """Return the content security policy of a page."""
    policies = [attributes for attributes in page.all("meta") if "http-equiv" in attributes]
    content = policies[0]["content"] if policies else ""
    assert content is not None
    return content


@pytest.mark.parametrize("records", [sample(), hostile(), []], ids=["sample", "hostile", "empty"])
def test_a_page_loads_nothing_and_runs_no_script_but_its_own(tmp_path: Path, records: list[Record]) -> None:
    page = page_of(tmp_path, records)
    assert not complaints(page)
    policy = policy_of(page)
    assert [part.split()[0] for part in policy.split("; ")] == [
        "default-src",
        "base-uri",
        "form-action",
        "style-src",
        "script-src",
    ]
    assert policy.startswith("default-src 'none'; base-uri 'none'; form-action 'none';")
    own = [content for attributes, content in page.scripts if attributes.get("type") in {None, "module"}]
    assert re.findall(r"script-src (.*)", policy)[0].count("'") == 2 * len(own), "no other script, no 'unsafe-inline'"
    assert page.elements.index(("meta", {"http-equiv": "Content-Security-Policy", "content": policy})) < 6


def test_a_page_of_two_runs_loads_and_runs_nothing_else_either() -> None:
    runs = [Run(directory=Path(name), info=RunInfo(id=name), records=tuple(sample())) for name in ("<b>a", "b")]
    page = Page(pages.render_comparison(compare(*runs)))
    assert not complaints(page)
    assert page.blobs.keys() == {"comparison"}


@pytest.mark.parametrize(
    "added",
    [
        "<img>",
        '<p onclick="x">',
        '<a href="https://example.org">',
        '<p style="background: url(x)">',
        "<style>@import 'x';</style>",
        "<script>alert(1)</script>",
        '<script type="module">alert(1)</script>',
        '<script type="application/gzip">{}</script>',
        '<script type="text/template"></script>',
        '<use xlink:href="x"/>',
        "<script src='x'></script>",
    ],
)
def test_what_loads_or_runs_something_else_is_noticed(added: str, tmp_path: Path) -> None:
    page = page_of(tmp_path, [record()])
    closed = added + "".join(f"</{tag}>" for tag in ("p", "a") if added.startswith(f"<{tag} "))
    assert complaints(Page(page.source.replace("</main>", f"{closed}</main>")))


@pytest.mark.parametrize("name", [*OWN, *LIBRARIES])
def test_no_script_can_end_its_element(name: str) -> None:
    content = (OWN | LIBRARIES)[name]
    assert not re.search(r"</script|<script|<!--", content, re.IGNORECASE)


def test_every_script_there_is_becomes_part_of_the_page(tmp_path: Path) -> None:
    scripts = [content for _, content in page_of(tmp_path, [record()]).scripts]
    assert {Path(name).suffix for name in OWN} == {".js"}
    for content in LIBRARIES.values():
        assert content in scripts
    for content in OWN.values():
        assert content in scripts[-1]
    assert scripts[-1].endswith(OWN["main.js"]), "it runs when all others are there"
    assert scripts.index(LIBRARIES["d3.min.js"]) < scripts.index(LIBRARIES["plot.umd.min.js"]), "Plot draws on D3"


def test_a_blob_cannot_be_ended_by_what_it_holds(tmp_path: Path) -> None:
    name = "</script><script>alert(1)</script><!--"
    page = page_of(tmp_path, [record(name, case=f"{name}/2", reason=name, command=name)])
    assert not complaints(page)
    (line,) = page.blobs["index"]["lines"]
    assert (line["strategy"], line["case"], line["told"]) == (name, f"{name}/2", name)
    assert page.details[0]["command"] == name


def test_the_libraries_are_those_that_are_written_down() -> None:
    told = dict(
        re.findall(r"^\| `([\w.]+)` \|.*\| `([0-9a-f]{64})` \|$", (HERE / "vendor/README.md").read_text(), re.M)
    )
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (HERE / "vendor").glob("*.js")}
    assert told == found
    assert {Path(name).name for name in pages._LIBRARIES} == set(found)


def test_every_library_comes_with_its_licence() -> None:
    for name, content in LIBRARIES.items():
        assert re.search(r"Copyright|\(c\)", content[:300]), name
    assert "Permission to use, copy, modify" in (HERE / "vendor/README.md").read_text()


def test_every_kind_of_figure_has_a_function_that_draws_it_and_none_is_left_over() -> None:
    functions = OWN["case_figures.js"].partition("const FIGURES = {")[2].partition("\n};")[0]
    assert re.findall(r"^  (\w+)\(\{", functions, re.M)
    assert set(re.findall(r"^  (\w+)\(\{", functions, re.M)) == set(typing.get_args(figures.Kind))


def test_every_part_of_an_epoch_has_a_name_and_a_colour() -> None:
    parts = OWN["case_figures.js"].partition("const PARTS = {")[2].partition("};")[0]
    assert set(re.findall(r"(\w+): \"", parts)) == set(typing.get_args(Part))
    for part in typing.get_args(Part):
        assert f"--part-{part}:" in STYLE
        assert f".swatch.part-{part} " in STYLE


@pytest.mark.parametrize(
    ("file", "table", "of"),
    [
        ("matrix.js", "GLYPHS", Conclusion),
        ("faults.js", "OUTCOMES", fault_matrix.Outcome),
        ("studies.js", "HOLDS_TONE", Holds),
        ("studies.js", "FOUND", Kind),
        ("studies.js", "STATE_TONE", findings.State),
        ("changes.js", "OUTCOME_TONE", Outcome),
    ],
)
def test_a_table_of_the_script_has_a_row_for_every_word_and_no_other(file: str, table: str, of: Any) -> None:
    rows = OWN[file].partition(f"const {table} = {{")[2].partition("};")[0]
    assert {quoted or plain for quoted, plain in re.findall(r'(?:"([\w -]+)"|\b(\w+)): ["\[]', rows)} == set(
        typing.get_args(of)
    )


def test_every_baseline_has_a_colour() -> None:
    for number, _ in enumerate(typing.get_args(BaselineName), 1):
        assert f"--series-{number}:" in STYLE
        assert f".swatch.series-{number} " in STYLE


def test_every_colour_that_is_used_is_defined_in_light_and_dark() -> None:
    used = set(re.findall(r"var\((--[\w-]+)\)", STYLE + TEMPLATES + "".join(OWN.values())))
    defined = re.findall(r"(--[\w-]+):", STYLE)
    assert used
    assert used <= set(defined)
    light, _, dark = STYLE.partition("prefers-color-scheme: dark")
    colours = set(re.findall(r"(--[\w-]+): ?(?:#|rgb|hsl|color)", light))
    assert colours
    assert colours == set(re.findall(r"(--[\w-]+): ?(?:#|rgb|hsl|color)", dark.partition("\n}")[0]))


def test_every_place_that_the_script_looks_for_is_there_and_none_stays_empty() -> None:
    script = "".join(OWN.values())
    sought = set(re.findall(r"(?:within|later|getElementById)\(\"([\w-]+)\"", script))
    assert sought
    assert sought <= set(re.findall(r"\bid=\"([\w-]+)\"", TEMPLATES))
    left = [place for place in re.findall(r"<div id=\"([\w-]+)\"[^>]*></div>", TEMPLATES) if f'"{place}"' not in script]
    assert not left


def test_the_script_reads_of_the_sections_what_is_packed(tmp_path: Path) -> None:
    packed = page_of(tmp_path, sample()).blobs["sections"]
    read = {
        name.strip() for names in re.findall(r"\(\{ ([\w, ]+) \}, place\)", OWN["main.js"]) for name in names.split(",")
    }
    read |= set(re.findall(r"function timesSection\(\{ (\w+): groups, (\w+) \}", OWN["times.js"])[0])
    assert {"times", "baselines", "scaling", "faults"} <= read <= set(packed)


def test_every_section_can_be_jumped_to(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample())
    targets = {attributes.get("href") for attributes in page.all("a")}
    sections = [attributes["id"] for attributes in page.all("section")]
    assert len(sections) > 4
    assert {f"#{name}" for name in sections} <= targets
