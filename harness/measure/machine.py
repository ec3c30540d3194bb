"""The machine a figure was taken on: facts for a record, cores for ranks, GPUs; without importing a framework."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import platform
import subprocess
from pathlib import Path

import psutil

from harness.measure import nvml

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
        "gpu_model": nvml.models(os.environ),
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


def memory_bytes() -> int:
    """Return the memory of this machine, or of the container this process is in."""
    limit = _line(Path("/sys/fs/cgroup/memory.max")) or "max"
    total: int = psutil.virtual_memory().total
    return total if limit == "max" else min(total, int(limit))


def num_usable_cores() -> int:
    """Return how many cores' worth of time this process may use: its cores, or what a container's quota leaves."""
    quota = _cpu_quota()
    return len(cores()) if quota is None else max(1, min(len(cores()), math.floor(quota)))


def shares(world_size: int, num_shares: int | None = None) -> list[tuple[int, ...]]:
    """Return each rank's cores: shares of one size, what is left over stays idle.

    There are as many shares as ranks, or ``num_shares`` where that is more, so that a rank owns as much as one of so
    many. With more ranks than cores each rank has one, taken in turn; such ranks share.
    """
    every = cores()
    size = len(every) // max(world_size, min(num_shares or 0, len(every)))
    if size == 0:
        return [(every[rank % len(every)],) for rank in range(world_size)]
    return [every[rank * size : (rank + 1) * size] for rank in range(world_size)]


def cuda_devices() -> int:
    """Return how many CUDA devices a process started now would see, without a CUDA context and without torch.

    Asks the driver's management library (NVML) and then reads CUDA_VISIBLE_DEVICES as the CUDA runtime does.
    """
    return nvml.visible(nvml.uuids(), os.environ)


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
