"""NVIDIA GPUs as their management library (NVML) shows them, without a CUDA context; none where there is no driver.

Every reading is None where the driver does not tell it. Tried against a stand-in for the library only.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

# NVML's rate of use is that of a period before it is asked, of a sixth to a whole second by the GPU's model.
RATE_S = 1.0


@functools.cache
def uuids() -> tuple[str, ...]:
    """Return the UUIDs of the GPUs the driver shows this process, in the order of their PCI addresses."""
    nvml = _library()
    if nvml is None:
        return ()
    try:
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError:
        return ()
    return tuple(_ask(nvml.nvmlDeviceGetUUID, index) or "" for index in range(count))


def visible(known: tuple[str, ...], variables: Mapping[str, str]) -> int:
    """Return how many of the devices with these UUIDs ``CUDA_VISIBLE_DEVICES`` leaves visible.

    A MIG instance counts as one device, and a process can use one only.
    """
    if variables.get("CUDA_VISIBLE_DEVICES", "").startswith("MIG-"):
        return min(1, len(known))
    return len(indices(known, variables))


def indices(known: tuple[str, ...], variables: Mapping[str, str]) -> tuple[int, ...]:
    """Return which of the devices with these UUIDs CUDA shows, in its order.

    As CUDA reads ``CUDA_VISIBLE_DEVICES``: a list of indices or of UUID prefixes, cut at the first that names no
    device; one that comes twice hides all.
    """
    wanted = variables.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return tuple(range(len(known)))
    found: list[int] = []
    for entry in (part.strip() for part in wanted.split(",")):
        device = _device(entry, known)
        if device is None:
            break
        if device in found:
            return ()
        found.append(device)
    return tuple(found)


def metered(variables: Mapping[str, str]) -> tuple[int, ...]:
    """Return the NVML indices of the GPUs that CUDA numbers 0, 1, ...; none where that cannot be told for sure.

    CUDA counts the fastest first unless ``CUDA_DEVICE_ORDER`` says otherwise, so among GPUs of several models its
    numbers are not NVML's.
    """
    nvml = _library()
    if nvml is None:
        return ()
    by_uuid = variables.get("CUDA_VISIBLE_DEVICES", "").startswith("GPU-")
    if not by_uuid and variables.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        models = {_ask(nvml.nvmlDeviceGetName, index) for index in range(len(uuids()))}
        if len(models) > 1:
            return ()
    return indices(uuids(), variables)


def models(variables: Mapping[str, str]) -> str | None:
    """Return the name of the GPUs that CUDA shows, every name where they are unlike; None without one.

    Where it cannot be told which of several models CUDA shows, all are named.
    """
    known, nvml = uuids(), _library()
    if not visible(known, variables):
        return None
    wanted = variables.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if wanted.startswith("MIG-"):  # an instance's name tells how much of the GPU it is
        with contextlib.suppress(nvml.NVMLError):  # told under another name by an old driver: then the whole GPUs
            return str(nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByUUID(wanted)))
    names = [_ask(nvml.nvmlDeviceGetName, index) or "unknown" for index in metered(variables) or range(len(known))]
    return names[0] if len(set(names)) == 1 else ", ".join(names)


def energy_j(index: int) -> float | None:
    """Return what a GPU has taken since its driver was loaded, in joules (Volta and newer)."""
    nvml = _library()
    milli = None if nvml is None else _ask(nvml.nvmlDeviceGetTotalEnergyConsumption, index)
    return None if milli is None else milli / 1000


def utilisation(index: int) -> float | None:
    """Return the share of the last sixth to whole second in which a kernel ran on a GPU."""
    nvml = _library()
    rates = None if nvml is None else _ask(nvml.nvmlDeviceGetUtilizationRates, index)
    return None if rates is None else rates.gpu / 100


def memory_bytes(index: int, pids: Collection[int]) -> int | None:
    """Return what these processes hold of a GPU's memory; None where none of them is known by its pid.

    Inside a container the driver may list processes under the pids of the host.
    """
    nvml = _library()
    processes = None if nvml is None else _ask(nvml.nvmlDeviceGetComputeRunningProcesses, index)
    held = [one.usedGpuMemory for one in processes or () if one.pid in pids and one.usedGpuMemory is not None]
    return sum(held) if held else None


@functools.cache
def _library() -> Any:
    """Return the binding, ready to be asked until this process ends, or None without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _ask(question: Callable[[Any], Any], index: int) -> Any:
    """Return a device's answer, or None where the driver has none."""
    nvml = _library()
    try:
        return question(nvml.nvmlDeviceGetHandleByIndex(index))
    except nvml.NVMLError:
        return None


def _device(entry: str, known: tuple[str, ...]) -> int | None:
    """Return the index of the device that ``entry`` names, or None."""
    if entry.startswith("GPU-"):
        fitting = [i for i, uuid in enumerate(known) if uuid.startswith(entry)]
        return fitting[0] if len(fitting) == 1 else None
    return int(entry) if entry.isascii() and entry.isdigit() and int(entry) < len(known) else None
