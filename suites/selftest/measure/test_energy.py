"""Energy of the processors comes from the kernel's counters, here a made-up tree, or is not given at all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from harness.measure import energy
from harness.timings import Timing, Used


def zone(root: Path, name: str, label: str, micro_j: int, limit: int = 1_000_000) -> Path:
    folder = root / name
    folder.mkdir(exist_ok=True)
    for file, value in (("name", label), ("energy_uj", micro_j), ("max_energy_range_uj", limit)):
        (folder / file).write_text(f"{value}\n")
    return folder


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages, with what must not be counted beside them: a part of one, and the whole machine."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0", 500_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 7)
    zone(tmp_path, "intel-rapl:1", "package-1", 900_000)
    zone(tmp_path, "intel-rapl:2", "psys", 7)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 7)
    return tmp_path


def test_packages_are_counted_once_and_their_parts_not_at_all(tree: Path) -> None:
    assert {path.name: count for path, count in energy.counters().items()} == {
        "intel-rapl:0": 500_000,
        "intel-rapl:1": 900_000,
    }


def test_joules_are_added_up_over_packages_even_where_a_counter_starts_again(tree: Path) -> None:
    before = energy.counters()
    zone(tree, "intel-rapl:0", "package-0", 700_000)
    zone(tree, "intel-rapl:1", "package-1", 100_000)
    assert energy.taken_j(before, energy.counters()) == pytest.approx(0.2 + 0.2)


def test_a_machine_that_tells_nothing_has_no_figure(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = energy.counters()
    (tree / "intel-rapl:1" / "energy_uj").unlink()
    assert energy.counters() == {}
    assert energy.taken_j(before, {}) is None
    monkeypatch.setattr(energy, "POWERCAP", tree / "absent")
    assert energy.counters() == {}
    assert energy.taken_j({}, {}) is None


def timing(*taken: float | None) -> Timing:
    used = tuple(
        Used(rank=rank, wall_s=1, cpu_s=1, memory_bytes=1, peak_memory_bytes=1, energy_j=one)
        for rank, one in enumerate(taken)
    )
    return Timing(
        epoch_s=((1.0,) * 4,) * len(taken),
        epoch_wall_s=(1.0,) * 4,
        warmup_s=(),
        num_samples=100,
        samples_per_s=100.0,
        baselines=(),
        used=used,
    )


def test_samples_a_joule_count_all_timed_epochs_and_the_energy_of_all_ranks() -> None:
    assert energy.samples_per_j(timing(30.0, 10.0)) == 10.0


def test_samples_a_joule_are_not_given_where_a_rank_s_energy_is_unknown() -> None:
    assert energy.samples_per_j(timing(30.0, None)) is None
    assert energy.samples_per_j(timing(0.0, 0.0)) is None
    assert energy.samples_per_j(msgspec.structs.replace(timing(1.0), used=())) is None
