"""GPUs are counted as CUDA counts them, and read through NVIDIA's library: here a stand-in, for want of a driver."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import ModuleType, SimpleNamespace

import pytest

from harness.measure import nvml

UUIDS = ("GPU-aaaa-1", "GPU-aabb-2", "GPU-cccc-3", "GPU-dddd-4")


class FakeNvml(ModuleType):
    """The functions of pynvml that are asked, for GPUs that are their own handles."""

    NVMLError = type("NVMLError", (Exception,), {})

    def __init__(self, names: tuple[str, ...] = ("A", "A"), *, driver: bool = True, energy: bool = True) -> None:
        super().__init__("pynvml")
        self.names, self.driver, self.energy = names, driver, energy

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise self.NVMLError

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return UUIDS[handle]

    def nvmlDeviceGetName(self, handle: int | str) -> str:  # noqa: N802
        return f"instance {handle}" if isinstance(handle, str) else self.names[handle]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid == "MIG-gone":
            raise self.NVMLError
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:  # noqa: N802
        if not self.energy:
            raise self.NVMLError
        return 1_000 * (handle + 1)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=25 * (handle + 1), memory=1)

    def nvmlDeviceGetComputeRunningProcesses(self, _handle: int) -> list[SimpleNamespace]:  # noqa: N802
        sizes = {10: 100, 11: 50, 12: None}
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in sizes.items()]


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    for cached in (nvml.uuids, nvml._library):
        cached.cache_clear()
    yield
    for cached in (nvml.uuids, nvml._library):
        cached.cache_clear()


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (None, 4),
        ("", 0),
        ("-1", 0),
        ("0", 1),
        ("2, 0", 2),
        ("0,1,2,3", 4),
        ("0,7,1", 1),
        ("0,-1,1", 1),
        ("1,1", 0),
        ("none", 0),
        ("GPU-cccc-3", 1),
        ("GPU-cc,GPU-dd", 2),
        ("GPU-aa", 0),
        ("GPU-zz", 0),
        ("MIG-1234", 1),
    ],
)
def test_visible_devices_are_counted_as_cuda_does(wanted: str | None, count: int) -> None:
    assert nvml.visible(UUIDS, {} if wanted is None else {"CUDA_VISIBLE_DEVICES": wanted}) == count


def test_a_machine_without_gpus_shows_none_whatever_is_asked_for() -> None:
    assert nvml.visible((), {}) == 0
    assert nvml.visible((), {"CUDA_VISIBLE_DEVICES": "0,1"}) == 0
    assert nvml.visible((), {"CUDA_VISIBLE_DEVICES": "MIG-1"}) == 0


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (0, 1)),
        ({"CUDA_VISIBLE_DEVICES": "1,0"}, (1, 0)),
        ({"CUDA_VISIBLE_DEVICES": "GPU-aab"}, (1,)),
        ({"CUDA_VISIBLE_DEVICES": "MIG-1"}, ()),
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_the_gpu_of_a_rank_is_found_by_its_number_or_uuid(
    variables: Mapping[str, str], expected: tuple[int, ...]
) -> None:
    assert nvml.metered(variables) == expected


def test_among_gpus_of_two_models_numbers_are_trusted_only_in_the_order_of_their_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(("A", "B")))
    assert nvml.metered({}) == ()
    assert nvml.metered({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}) == (0, 1)
    assert nvml.metered({"CUDA_VISIBLE_DEVICES": "GPU-aab"}) == (1,)


@pytest.mark.parametrize(
    ("names", "variables", "expected"),
    [
        (("A", "A"), {}, "A"),
        (("A", "B"), {}, "A, B"),
        (("A", "B"), {"CUDA_VISIBLE_DEVICES": "GPU-aab"}, "B"),
        (("A", "B"), {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, "B"),
        (("A", "B"), {"CUDA_VISIBLE_DEVICES": "1"}, "A, B"),  # CUDA's number 1 may be either
        (("A", "A"), {"CUDA_VISIBLE_DEVICES": "MIG-1"}, "instance MIG-1"),
        (("A", "A"), {"CUDA_VISIBLE_DEVICES": "MIG-gone"}, "A"),
        (("A", "A"), {"CUDA_VISIBLE_DEVICES": ""}, None),
        ((), {}, None),
    ],
)
def test_the_models_that_cuda_shows_are_named(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], variables: Mapping[str, str], expected: str | None
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(names))
    assert nvml.models(variables) == expected


def test_energy_utilisation_and_memory_are_read(two_gpus: FakeNvml) -> None:
    assert nvml.uuids() == UUIDS[:2]
    assert nvml.energy_j(1) == 2.0
    assert nvml.utilisation(1) == 0.5
    assert nvml.memory_bytes(0, {10, 11, 99}) == 150
    two_gpus.energy = False
    assert nvml.energy_j(1) is None


@pytest.mark.usefixtures("two_gpus")
def test_memory_of_processes_that_the_driver_lists_otherwise_is_unknown_rather_than_none() -> None:
    assert nvml.memory_bytes(0, {99}) is None
    assert nvml.memory_bytes(0, {12}) is None


def test_without_a_driver_nothing_is_known_and_nothing_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(driver=False))
    assert (nvml.uuids(), nvml.metered({}), nvml.models({})) == ((), (), None)
    assert (nvml.energy_j(0), nvml.utilisation(0), nvml.memory_bytes(0, {1})) == (None, None, None)


def test_the_real_library_has_every_function_that_the_stand_in_has() -> None:
    real = pytest.importorskip("pynvml")
    own = {name for name in vars(FakeNvml) if name.startswith("nvml")}
    assert own <= set(dir(real))
    assert issubclass(real.NVMLError, Exception)
