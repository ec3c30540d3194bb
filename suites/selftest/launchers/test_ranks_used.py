"""What ranks use in their epochs is read from outside: their helpers count, and what is not timed does not."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.launchers import guardian
from harness.launchers import meter as meters
from harness.launchers.local import Group, Pool
from harness.launchers.meter import Meter
from harness.measure import energy, nvml, resources

MakeGroup = Callable[..., Group]
OPTIONS: dict[str, str] = {"own_s": "0.10", "staying_s": "0.06", "ending_s": "0.08", "held_bytes": str(1 << 24)}
EPOCH_S = 0.24
MIB = 1 << 20


def test_cpu_seconds_of_a_rank_count_its_helpers_alive_or_ended(pool: Pool, group: MakeGroup) -> None:
    with pool.open([group("uses", **OPTIONS)], timeout_s=60) as session:
        assert session.used(0) == ()
        session.epoch(0)
        session.forget_used(0)
        for _ in range(3):
            session.epoch(0)
        used = session.used(0)
        session.finish(0)
    assert [one.rank for one in used] == [0, 1]
    for one in used:
        # Ended helpers are told in hundredths of a second; forking and reading take a little, too.
        assert 3 * EPOCH_S - 0.03 <= one.cpu_s <= 3 * EPOCH_S + 0.15
        assert one.wall_s >= one.cpu_s
        assert one.energy_j is None or one.energy_j > 0
        assert (one.gpu_memory_bytes, one.gpu_utilisation) == (None, None)


def test_memory_is_that_of_the_rank_and_its_peak_the_largest_so_far(pool: Pool, group: MakeGroup) -> None:
    with pool.open([group("uses", 1, **OPTIONS)], timeout_s=60) as session:
        session.epoch(0)
        (first,) = session.used(0)
        for _ in range(2):
            session.epoch(0)
        (last,) = session.used(0)
        session.finish(0)
    # Each epoch keeps 16 MiB more; the mean of three is one of these above the first.
    assert last.peak_memory_bytes - first.peak_memory_bytes >= 30 * MIB
    assert 12 * MIB <= last.memory_bytes - first.memory_bytes <= 24 * MIB
    assert first.memory_bytes <= first.peak_memory_bytes


def test_epochs_that_are_profiled_or_not_metered_are_left_out(pool: Pool, group: MakeGroup) -> None:
    with pool.open([group("timed", 1)], timeout_s=30) as session:
        session.epoch(0, profile=True)
        session.metered = False
        session.epoch(0)
        assert session.used(0) == ()
        session.metered = True
        session.epoch(0)
        assert len(session.used(0)) == 1
        session.finish(0)


def test_ranks_are_looked_at_while_they_train(pool: Pool, group: MakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(Meter, "_look", lambda _meter: looks.append(1))
    monkeypatch.setattr(meters, "LOOK_S", 0.02)
    with pool.open([group("uses", 1, **OPTIONS)], timeout_s=60) as session:
        session.epoch(0)
        assert len(looks) > 3
        session.finish(0)


def test_a_kernel_without_clocks_of_other_processes_is_asked_in_hundredths(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = resources.cpu_s(os.getpid(), [])

    def refuse(_clock: int) -> float:
        raise OSError

    monkeypatch.setattr(time, "clock_gettime", refuse)
    assert resources.cpu_s(os.getpid(), []) == pytest.approx(exact, abs=0.1)


def test_a_process_that_is_gone_has_used_nothing_more() -> None:
    gone = 2**22 + 1  # above the largest pid
    assert (resources.cpu_s(gone, [gone]), resources.resident_bytes(gone)) == (0.0, 0)
    assert (resources.peak_bytes(gone), resources.private_bytes(gone)) == (0, 0)


# -- the same, with made-up counters -----------------------------------------------------------------------------------


def rank(number: int, device: str, world_size: int = 2, gpu: int | None = None) -> SimpleNamespace:
    job = SimpleNamespace(rank=number, device=device, world_size=world_size, gpu=gpu)
    return SimpleNamespace(pid=100 + number, job=job)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that take a CPU second at every reading, on GPUs that take 10 joules; packages take 3."""
    cpu, gpus, packages = itertools.count(), itertools.count(0, 10), itertools.count(0, 3_000_000)
    monkeypatch.setattr(guardian, "descendants", lambda _pid: [])
    monkeypatch.setattr(resources, "cpu_s", lambda _pid, _helpers: float(next(cpu)))
    for name in ("resident_bytes", "peak_bytes", "private_bytes"):
        monkeypatch.setattr(resources, name, lambda _pid: 1000)
    monkeypatch.setattr(nvml, "energy_j", lambda _gpu: float(next(gpus)))
    monkeypatch.setattr(nvml, "utilisation", lambda _gpu: 0.5)
    monkeypatch.setattr(nvml, "memory_bytes", lambda _gpu, _pids: 7)
    monkeypatch.setattr(nvml, "metered", lambda _variables: (3, 1))
    monkeypatch.setattr(energy, "counters", lambda: {Path("package"): next(packages)})


def metered(*ranks: SimpleNamespace) -> Meter:
    meter = Meter(ranks)  # type: ignore[arg-type]
    meter.begin()
    meter.end()
    return meter


@pytest.mark.usefixtures("made_up")
def test_ranks_on_a_cpu_have_equal_parts_of_what_its_packages_took() -> None:
    used = metered(rank(0, "cpu"), rank(1, "cpu")).used()
    assert [one.energy_j for one in used] == [1.5, 1.5]
    assert [one.cpu_s for one in used] == [2.0, 2.0]
    assert [one.gpu_memory_bytes for one in used] == [None, None]


@pytest.mark.usefixtures("made_up")
def test_each_rank_has_its_gpu_in_the_order_that_cuda_shows() -> None:
    meter = metered(rank(0, "cuda"), rank(1, "cuda"))
    assert [gpus for _, _, gpus in meter._ranks] == [(3,), (1,)]
    assert [one.energy_j for one in meter.used()] == [20.0, 20.0]
    assert [one.gpu_memory_bytes for one in meter.used()] == [7, 7]


@pytest.mark.usefixtures("made_up")
def test_a_gpus_rate_counts_only_when_all_of_its_period_lies_in_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    now: list[float] = [0.0]
    asked: list[float] = []

    def rate(_gpu: int) -> float:
        asked.append(now[0])
        return 0.25

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(nvml, "utilisation", rate)
    meter = Meter([rank(0, "cuda", 1)])  # type: ignore[list-item]
    for _ in range(3):  # a serial run may have had the GPU until each of them begins
        meter.begin()
        now[0] += 0.9
        meter.end()
    assert [one.gpu_utilisation for one in meter.used()] == [None]
    assert not asked
    meter.begin()
    for _ in range(3):
        now[0] += 0.6
        meter.idle()
    meter.end()
    assert [one.gpu_utilisation for one in meter.used()] == [0.25]
    began = 3 * 0.9
    assert [at - began for at in asked] == pytest.approx([1.2, 1.8, 1.8])


@pytest.mark.usefixtures("made_up")
def test_serial_trainings_side_by_side_have_the_gpus_that_their_jobs_name() -> None:
    meter = metered(*(rank(0, "cuda", 1, gpu) for gpu in range(2)))
    assert [gpus for _, _, gpus in meter._ranks] == [(3,), (1,)]


@pytest.mark.usefixtures("made_up")
def test_ranks_that_share_a_gpu_have_equal_parts_of_it() -> None:
    meter = metered(*(rank(number, "cuda", 4) for number in range(4)))
    assert [gpus for _, _, gpus in meter._ranks] == [(3,), (1,), (3,), (1,)]
    assert [one.energy_j for one in meter.used()] == [10.0] * 4


@pytest.mark.usefixtures("made_up")
def test_a_training_of_one_process_has_the_gpus_of_all_its_replicas() -> None:
    meter = metered(rank(0, "cuda"))
    assert meter._ranks == [(0, 100, (3, 1))]
    (one,) = meter.used()
    assert (one.energy_j, one.gpu_memory_bytes) == (40.0, 14)


@pytest.mark.usefixtures("made_up")
def test_energy_that_was_unknown_once_stays_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = metered(rank(0, "cpu"))
    monkeypatch.setattr(energy, "counters", dict)
    meter.begin()
    meter.end()
    assert [one.energy_j for one in meter.used()] == [None]
    meter.forget()
    assert meter.used() == ()


@pytest.mark.usefixtures("made_up")
def test_looks_are_so_rare_that_they_cost_below_half_a_per_cent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    meter = Meter([rank(0, "cpu")])  # type: ignore[list-item]

    def slow(pid: int) -> int:
        now[0] += 0.01
        return 1000

    monkeypatch.setattr(resources, "resident_bytes", slow)
    meter.begin()
    assert meter.idle() == pytest.approx(0.5)
    now[0] = 0.5
    assert meter.idle() == pytest.approx(2.0 - 0.01)
    assert now[0] == pytest.approx(0.51)
