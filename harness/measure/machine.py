"""The machine a figure was taken on: facts for a record, cores for ranks, GPUs; without importing a framework."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

# What a result may depend on, and the distributions it comes in.
PACKAGES = {
    "lockstep": ("lockstep-harness",),
    "numpy": ("numpy",),
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "keras": ("keras",),
    "horovod": ("horovod",),
    "torchgpipe": ("torchgpipe",),
    "deepspeed": ("deepspeed",),
}
CPU = Path("/sys/devices/system/cpu")


def environment() -> dict[str, str | float | int]:
    """Return what a record must tell of this machine, flat; what cannot be found out is left out. No host name."""
    facts: dict[str, str | float | int | None] = {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "kernel": platform.release(),
        "cpu_model": _cpu_model(),
        "num_cores": len(cores()),
        "num_cores_machine": os.cpu_count(),
        "cpu_quota": _cpu_quota(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": _load_average(),
        "governor": _line(CPU / "cpu0/cpufreq/scaling_governor"),
        "cuda_devices": cuda_devices(),
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "nvidia_driver": _line(Path("/sys/module/nvidia/version")),
        "commit": _commit(),
    }
    facts |= versions()
    return {name: value for name, value in facts.items() if value is not None}


def versions() -> dict[str, str]:
    """Return the version of each installed package that a result may depend on, without importing any."""
    found = {}
    for package, distributions in PACKAGES.items():
        for distribution in distributions:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # absent: nothing depends on it
                found[package] = importlib.metadata.version(distribution)
    return found


def cores() -> tuple[int, ...]:
    """Return the cores this process may use; hardware threads of one physical core stand side by side."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return tuple(sorted(allowed, key=lambda core: (*_place(core), core)))


def shares(world_size: int) -> list[tuple[int, ...]]:
    """Return each rank's cores: shares of one size, what is left over stays idle.

    With more ranks than cores each rank has one, taken in turn; such ranks share.
    """
    every = cores()
    size = len(every) // world_size
    if size == 0:
        return [(every[rank % len(every)],) for rank in range(world_size)]
    return [every[rank * size : (rank + 1) * size] for rank in range(world_size)]


def cuda_devices() -> int:
    """Return how many CUDA devices a process started now would see, without a CUDA context and without torch.

    Asks the driver's management library (NVML) and then reads CUDA_VISIBLE_DEVICES as the CUDA runtime does.
    """
    return visible(_uuids(), os.environ)


def visible(uuids: tuple[str, ...], variables: Mapping[str, str]) -> int:
    """Return how many of the devices with these UUIDs ``CUDA_VISIBLE_DEVICES`` leaves visible.

    As CUDA reads it: a list of indices or of UUID prefixes, cut at the first that names no device; one that comes
    twice hides all. A MIG instance counts as one device, and a process can use one only.
    """
    wanted = variables.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return len(uuids)
    if wanted.startswith("MIG-"):
        return min(1, len(uuids))
    found: list[int] = []
    for entry in (part.strip() for part in wanted.split(",")):
        device = _device(entry, uuids)
        if device is None:
            break
        if device in found:
            return 0
        found.append(device)
    return len(found)


def _device(entry: str, uuids: tuple[str, ...]) -> int | None:
    """Return the index of the device that ``entry`` names, or None."""
    if entry.startswith("GPU-"):
        fitting = [i for i, uuid in enumerate(uuids) if uuid.startswith(entry)]
        return fitting[0] if len(fitting) == 1 else None
    return int(entry) if entry.isascii() and entry.isdigit() and int(entry) < len(uuids) else None


@functools.cache
def _uuids() -> tuple[str, ...]:
    """Return the UUIDs of the GPUs the driver shows this process, in its order; none without a driver."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return ()
    if nvml.nvmlInit_v2() != 0:
        return ()
    try:
        count = ctypes.c_uint()
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return ()
        return tuple(_uuid(nvml, index) for index in range(count.value))
    finally:
        nvml.nvmlShutdown()


def _uuid(nvml: ctypes.CDLL, index: int) -> str:
    device, text = ctypes.c_void_p(), ctypes.create_string_buffer(96)
    if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)) != 0:
        return ""
    return text.value.decode() if nvml.nvmlDeviceGetUUID(device, text, ctypes.c_uint(len(text))) == 0 else ""


def _place(core: int) -> tuple[int, int]:
    """Return (package, physical core) of a hardware thread."""
    topology = CPU / f"cpu{core}/topology"
    package, physical = _line(topology / "physical_package_id"), _line(topology / "core_id")
    return int(package or 0), int(physical or core)


def _line(path: Path) -> str | None:
    """Return the stripped text of a kernel file, or None where the kernel does not offer it."""
    try:
        return path.read_text(encoding="ascii").strip() or None
    except OSError:
        return None


def _cpu_model() -> str | None:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def _cpu_quota() -> float | None:
    """Return how many cores' worth of time a container may use, or None without a limit."""
    quota, _, period = (_line(Path("/sys/fs/cgroup/cpu.max")) or "max").partition(" ")
    return None if quota == "max" else int(quota) / int(period)


def _load_average() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _commit() -> str | None:
    """Return the commit of the current directory's repository, marked when files differ from it."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
