"""How curves read and look: the limit in a sentence, sizes in a table, the law with its band in one picture."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from fixtures.sample_records import RUN, hostile, record, scaled, timing, write_run
from harness.measure.curves import curves
from harness.measure.laws import amdahl, usl
from harness.record import Record
from harness.report import scaling, terminal, write
from harness.report.summary import summarise
from harness.store import read


def sentences(*records: Record) -> str:
    (curve,) = curves(records)
    return " ".join(scaling.sentences(curve))


def test_a_constant_fraction_is_told_as_serial_work() -> None:
    told = sentences(*(scaled(size, amdahl(size, 0.11)) for size in (2, 4, 8, 16)))
    assert told.startswith("Serial fraction 1")
    assert "(Amdahl)" in told
    assert "does not measurably grow" in told
    assert "Held out, 16 ranks are foretold from 2, 4 and 8" in told
    assert "inside the interval" in told


def test_costs_that_grow_are_told_as_overhead_with_the_peak() -> None:
    told = sentences(*(scaled(size, usl(size, 0.04, 0.003)) for size in (2, 4, 8, 16, 32)))
    assert told.startswith("Contention")
    assert "more make it slower" in told
    assert "grows with the ranks: what limits is overhead" in told


def test_one_size_says_that_nothing_was_held_out() -> None:
    assert "One size beyond 1" in sentences(scaled(2, 1.7))


def test_a_law_that_misses_says_so() -> None:
    told = sentences(scaled(2, 1.4, noise=0.005), scaled(4, 3.6, noise=0.005))
    assert "this law misses the sizes by more than noise explains" in told


def test_sizes_that_are_no_points_are_listed_without_efficiency() -> None:
    told = sentences(scaled(2, 1.7), scaled(4, 1.8, timing={"oversubscribed": True}))
    assert "Not in this curve: 4 ranks, ranks had to share cores" in told


def test_the_terminal_tells_the_limit_of_curves_of_two_sizes_or_more(tmp_path: Path) -> None:
    run = read(write_run(tmp_path / RUN, [scaled(size, amdahl(size, 0.1)) for size in (2, 4)]))
    lines = terminal(run)
    assert "scaling" in lines
    (line,) = [line for line in lines if "Serial fraction" in line]
    assert line.startswith("  torch-ddp on mnist-cnn, strong scaling, CPU ranks, 1 thread a rank: Serial fraction")
    alone = read(write_run(tmp_path / "one", [scaled(2, 1.7)]))
    assert "scaling" not in terminal(alone)


@pytest.mark.parametrize("sizes", [(2,), (2, 4), (2, 4, 8)])
def test_without_scipy_the_section_says_what_is_missing(
    sizes: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("scipy", "scipy.special", "scipy.optimize"):
        monkeypatch.setitem(sys.modules, name, None)
    records = [scaled(size, amdahl(size, 0.1)) for size in sizes]
    assert sentences(*records).startswith("No law: fitting laws of scaling needs scipy, which is not installed")
    told = " ".join(terminal(read(write_run(tmp_path / RUN, records))))
    assert ("needs scipy" in told) == (len(sizes) > 1)


def test_the_page_shows_a_picture_and_a_table_of_sizes(tmp_path: Path) -> None:
    page = write(write_run(tmp_path / RUN, [scaled(size, amdahl(size, 0.1)) for size in (2, 4, 8)])).read_text()
    section = page[page.index('<section id="scaling">') :]
    section = section[: section.index("</section>")]
    assert section.count("<svg") == 1
    assert section.count('<th scope="row">') == 5
    assert section.count("foretold</td>") == 2
    assert "within-law" in section


def test_what_was_timed_on_one_size_is_a_line_of_a_table_and_no_picture(tmp_path: Path) -> None:
    page = write(write_run(tmp_path / RUN, [scaled(2, 1.7)])).read_text()
    section = page[page.index('id="scaling"') :].partition("</section>")[0]
    assert "Timed on one size" in section
    assert "Serial fraction" in section
    assert "<svg" not in section


def test_a_run_without_timed_cases_has_no_such_section(tmp_path: Path) -> None:
    assert 'id="scaling"' not in write(write_run(tmp_path / RUN, [record()])).read_text()


@pytest.mark.parametrize("sizes", [(2,), (2, 4), (2, 4, 8, 16, 32), (3, 5, 6), (64, 128)])
@pytest.mark.parametrize("kind", ["good", "slow", "steep"])
def test_every_curve_is_a_well_formed_picture_inside_its_frame(
    sizes: tuple[int, ...], kind: str, tmp_path: Path
) -> None:
    speedups = [{"good": amdahl(size, 0.05), "slow": 1 / size, "steep": 1.5 * size}[kind] for size in sizes]
    run = read(write_run(tmp_path / RUN, [scaled(*each) for each in zip(sizes, speedups, strict=True)]))
    (view,) = scaling.views(summarise(run))
    assert "nan" not in view.chart
    picture = ET.fromstring(view.chart)
    heights = [float(item.attrib["cy"]) for item in picture.iter() if "cy" in item.attrib]
    assert all(0 <= y <= 330 for y in heights)
    assert len(heights) >= len(sizes)
    assert bool(view.ahead) == bool(view.curve.fits)


def test_hostile_figures_make_no_curve_and_no_crash(tmp_path: Path) -> None:
    run = read(write_run(tmp_path / RUN, hostile()))
    assert scaling.views(summarise(run)) == []
    broken = timing(1.5, epoch_wall_s=(math.nan, 1.0))
    (view,) = scaling.views(summarise(read(write_run(tmp_path / "broken", [record(timing=broken)]))))
    assert view.curve.fits == ()
