"""How curves read, and what they are drawn from: sizes, the law with its band, what is foretold."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from written_page import page_of

from fixtures.sample_records import RUN, hostile, record, scaled, timing, write_run
from harness.measure.curves import curves
from harness.measure.laws import amdahl, usl
from harness.record import Record
from harness.report import terminal
from harness.report.html import payload
from harness.report.sections import scaling
from harness.report.sections.figures import row
from harness.report.sections.scaling import View
from harness.report.summary import summarise
from harness.store import Run, RunInfo, read
from harness.timings import Used


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


def views_of(*records: Record) -> list[View]:
    return scaling.views(summarise(Run(directory=Path(RUN), info=RunInfo(id=RUN), records=records)))


def only(*records: Record) -> View:
    (view,) = views_of(*records)
    return view


def test_a_curve_holds_the_measured_sizes_and_after_them_those_it_foretells() -> None:
    view = only(*(scaled(size, amdahl(size, 0.1)) for size in (2, 4, 8)))
    assert [(size.ranks, size.measured) for size in view.sizes] == [
        *((2, True), (4, True), (8, True)),
        *((16, False), (32, False)),
    ]
    for size in view.sizes:
        low, median, high = map(float, size.speedup)  # type: ignore[arg-type]
        assert low <= median <= high
        assert size.efficiency == pytest.approx([value / size.ranks for value in (low, median, high)], rel=1e-3)
        assert median == pytest.approx(amdahl(size.ranks, 0.1), rel=0.1)
    assert view.sizes[0].figures[1].startswith(f"{view.sizes[0].speedup[1]:.2f}x [")
    assert [size.figures[0] for size in view.sizes if not size.measured] == ["foretold", "foretold"]
    assert (view.title, view.strong, view.drawn) == ("torch-ddp on mnist-cnn", True, True)
    assert view.manner == "strong scaling, CPU ranks, 1 thread a rank"


def test_the_law_runs_from_one_rank_to_the_farthest_size_through_the_sizes() -> None:
    view = only(*(scaled(size, amdahl(size, 0.1)) for size in (2, 4, 8)))
    at = [point[0] for point in view.law]
    assert at == sorted(at, key=lambda rank: rank or 0)
    assert (at[0], at[-1]) == (1.0, 32.0)
    assert len(at) >= 48
    assert view.law_name in {"Amdahl", "USL"}
    for ranks, low, median, high in view.law:
        assert None not in (ranks, low, median, high)
        assert low <= median <= high  # type: ignore[operator]
    assert view.law[0][1:] == [1.0, 1.0, 1.0], "one rank is as fast as one rank"
    here = {point[0]: point[1:] for point in view.law}
    assert here[32.0] == view.sizes[-1].speedup
    assert 8.0 in here, "where measuring ends and foretelling begins"


def test_the_largest_size_is_foretold_from_the_smaller_ones() -> None:
    records = [scaled(size, amdahl(size, 0.1)) for size in (2, 4, 8)]
    (curve,) = curves(records)
    assert curve.held_out is not None
    foretold = curve.held_out.predicted
    assert foretold.median != curve.held_out.measured.median
    assert only(*records).held_out == [8, *row((foretold.low, foretold.median, foretold.high))]
    assert only(scaled(2, 1.8)).held_out == []


def test_memory_is_the_most_that_a_rank_took_and_energy_is_samples_per_joule() -> None:
    def used(size: int) -> tuple[Used, ...]:
        return tuple(
            Used(
                rank=rank,
                wall_s=4.0,
                cpu_s=4.0,
                memory_bytes=1 << 28,
                peak_memory_bytes=(1 << 29) + rank,
                energy_j=50.0,
            )
            for rank in range(size)
        )

    view = only(*(scaled(size, amdahl(size, 0.1), timing={"used": used(size)}) for size in (2, 4)))
    measured = [size for size in view.sizes if size.measured]
    assert [size.memory_bytes for size in measured] == [(1 << 29) + 1, (1 << 29) + 3]
    assert [size.samples_per_j for size in measured] == [143.7, 71.85]
    assert {(size.memory_bytes, size.samples_per_j) for size in view.sizes if not size.measured} == {(None, None)}
    on_gpu = (msgspec.structs.replace(used(1)[0], gpu_memory_bytes=7),)
    assert only(scaled(2, 1.8, timing={"used": on_gpu})).sizes[0].memory_bytes == 7, "on a GPU its own counts"
    assert only(scaled(2, 1.8)).sizes[0].memory_bytes is None


def test_what_was_timed_on_one_size_is_a_line_of_a_table_and_no_picture() -> None:
    lone = only(scaled(2, 1.7))
    assert not lone.drawn
    assert lone.told[0].startswith(("Serial fraction", "No serial fraction"))
    assert only(scaled(2, 1.7), scaled(4, 2.9)).drawn


def test_a_size_that_is_no_point_still_makes_a_picture() -> None:
    view = only(scaled(2, 1.7), scaled(4, 1.8, timing={"oversubscribed": True}))
    assert view.drawn
    assert 4 not in [size.ranks for size in view.sizes if size.measured]


@pytest.mark.parametrize("struck", [{"conclusion": "different"}, {"timing": {"struck": "shared cores"}}])
def test_a_struck_case_is_no_point_of_a_curve(struck: dict[str, Any]) -> None:
    view = only(scaled(2, 1.7), scaled(4, 2.9), scaled(8, 5.1, **struck))
    assert [size.ranks for size in view.sizes if size.measured] == [2, 4]
    assert any(told.startswith("Not in this curve: 8 ranks") for told in view.told)
    assert "5.1" not in " ".join(view.told)


def test_strong_and_weak_scaling_are_different_curves() -> None:
    found = views_of(
        *(scaled(size, amdahl(size, 0.1)) for size in (2, 4)),
        *(scaled(size, amdahl(size, 0.1), strategy="tf-mirrored", timing={"scaling": "weak"}) for size in (2, 4)),
    )
    assert {(view.title.split()[0], view.strong) for view in found} == {("torch-ddp", True), ("tf-mirrored", False)}


def test_curves_and_their_words_are_on_the_page(tmp_path: Path) -> None:
    page = page_of(tmp_path, [scaled(size, amdahl(size, 0.1)) for size in (2, 4, 8)])
    assert " ".join(scaling.NOTE.split()) in page.text
    (view,) = page.blobs["sections"]["scaling"]
    assert view["told"][0].startswith("Serial fraction")
    assert [size["ranks"] for size in view["sizes"]] == [2, 4, 8, 16, 32]


def test_a_run_without_timed_cases_has_no_such_section(tmp_path: Path) -> None:
    page = page_of(tmp_path, [record()])
    assert "scaling" not in {attributes.get("id") for attributes in page.all("section")}
    assert page.blobs["sections"]["scaling"] == []


@pytest.mark.parametrize("sizes", [(2,), (2, 4), (2, 4, 8, 16, 32), (3, 5, 6), (64, 128)])
@pytest.mark.parametrize("kind", ["good", "slow", "steep"])
def test_every_curve_can_be_drawn(sizes: tuple[int, ...], kind: str) -> None:
    speedups = [{"good": amdahl(size, 0.05), "slow": 1 / size, "steep": 1.5 * size}[kind] for size in sizes]
    view = only(*(scaled(*each) for each in zip(sizes, speedups, strict=True)))
    assert [size.ranks for size in view.sizes if size.measured] == list(sizes)
    assert bool(view.law) == bool(view.law_name) == any(not size.measured for size in view.sizes)
    for size in view.sizes:
        assert len(size.speedup) == len(size.efficiency) == 3
        assert len(size.figures) == 4
        assert all(value is not None and value > 0 for value in size.speedup if size.measured)
    assert all(len(point) == 4 and point[0] is not None for point in view.law)
    assert payload.pack(view)


def test_hostile_figures_make_no_curve_and_no_crash(tmp_path: Path) -> None:
    run = read(write_run(tmp_path / RUN, hostile()))
    assert scaling.views(summarise(run)) == []
    broken = timing(1.5, epoch_wall_s=(math.nan, 1.0))
    (view,) = scaling.views(summarise(read(write_run(tmp_path / "broken", [record(timing=broken)]))))
    assert (view.law, view.law_name) == ((), "")
