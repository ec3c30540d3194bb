"""What this machine has for parallel training, what it lacks, and the way out of each lack."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.measure import machine
from harness.scratch import ENOUGH_BYTES, SHARED_MEMORY, VARIABLE

State = Literal["ok", "note", "lacks"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing looked at: its state, what was found and, unless all is well, the way out."""

    topic: str
    state: State
    found: str
    way_out: str = ""


def examine(folder: Path) -> Iterator[Finding]:
    """Yield what was found, topic by topic; ``folder`` is where reports would go."""
    for look in (_platform, _cores, _frameworks, _backends, _gpus, _shared_memory, _ports, _clock, _compiler):
        yield from look()
    yield from _disk(folder)


def _platform() -> Iterator[Finding]:
    if sys.platform == "linux":
        yield Finding(topic="platform", state="ok", found=f"{os.uname().sysname} {os.uname().release}")
    else:
        yield Finding(
            topic="platform",
            state="lacks",
            found=f"{sys.platform}: ranks are forked and supervised with Linux's pidfds",
            way_out="run on Linux; `harness list`, `report` and `compare` work here",
        )


def _cores() -> Iterator[Finding]:
    cores = machine.cores()
    found = f"{len(cores)} core{'s' * (len(cores) > 1)} to run on"
    enough = len(cores) >= 2
    way_out = "" if enough else "two ranks would share a core: equality can be judged, speed cannot"
    yield Finding(topic="cores", state="ok" if enough else "note", found=found, way_out=way_out)


def _frameworks() -> Iterator[Finding]:
    for package, names, extra in (
        ("torch", ("torch",), "pip install 'lockstep-harness[torch]'"),
        (
            "tensorflow",
            ("tensorflow", "tensorflow-cpu", "tensorflow_cpu"),
            "pip install 'lockstep-harness[tensorflow]'",
        ),
        ("torchgpipe", ("torchgpipe",), "pip install 'lockstep-harness[torchgpipe]'"),
        ("deepspeed", ("deepspeed",), "pip install 'lockstep-harness[deepspeed]'"),
        ("horovod", ("horovod",), "make horovod (builds it against the installed frameworks; needs a C++ compiler)"),
        ("sklearn", ("scikit-learn",), "pip install 'lockstep-harness[digits]' (the digits images ship inside it)"),
    ):
        if importlib.util.find_spec(package) is None:
            yield Finding(topic=package, state="lacks", found="not installed", way_out=extra)
        else:
            yield Finding(topic=package, state="ok", found=_version(names))


def _version(names: tuple[str, ...]) -> str:
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "installed, version unknown"


def _backends() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        return
    # In a process of its own: a broken installation must not take this command down.
    program = "import torch.distributed as d; print(d.is_gloo_available(), d.is_nccl_available())"
    answer = _ask([sys.executable, "-c", program])
    if answer is None or len(answer.split()) != 2:
        yield Finding(
            topic="torch.distributed", state="lacks", found="torch does not import", way_out="python -c 'import torch'"
        )
        return
    for backend, available, use in zip(("gloo", "nccl"), answer.split(), ("CPU ranks", "GPU ranks"), strict=True):
        here = available == "True"
        way_out = "" if here else f"{use} need it; install a torch that was built with {backend}"
        yield Finding(topic=backend, state="ok" if here else "lacks", found=f"built in: {available}", way_out=way_out)


def _gpus() -> Iterator[Finding]:
    count = machine.cuda_devices()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    found = f"{count} CUDA device{'s' * (count != 1)} (CUDA_VISIBLE_DEVICES: {visible})"
    way_out = "" if count else "cases marked gpu1, gpu2, ... are skipped here and told as not verified"
    yield Finding(topic="GPUs", state="ok" if count else "note", found=found, way_out=way_out)


def _shared_memory() -> Iterator[Finding]:
    if not SHARED_MEMORY.is_dir():
        yield Finding(topic="shared memory", state="note", found=f"no {SHARED_MEMORY}", way_out="arrays go to the disk")
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    way_out = "" if free >= ENOUGH_BYTES else f"arrays go to the temporary folder; or name a faster one in ${VARIABLE}"
    state: State = "ok" if free >= ENOUGH_BYTES else "note"
    yield Finding(topic="shared memory", state=state, found=f"{free / 1e9:.1f} GB free", way_out=way_out)


def _ports() -> Iterator[Finding]:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            found = f"loopback port {server.getsockname()[1]} could be opened"
    except OSError as error:
        way_out = "gloo and Horovod connect over the loopback interface: bring it up (ip link set lo up)"
        yield Finding(topic="ports", state="lacks", found=str(error), way_out=way_out)
        return
    yield Finding(topic="ports", state="ok", found=found)


def _clock() -> Iterator[Finding]:
    resolution = time.get_clock_info("monotonic").resolution
    fine = resolution <= 1e-6
    way_out = "" if fine else "epochs shorter than a thousand ticks cannot be timed here"
    yield Finding(
        topic="clock", state="ok" if fine else "note", found=f"monotonic, {resolution:.0e} s a tick", way_out=way_out
    )


def _compiler() -> Iterator[Finding]:
    compiler = shutil.which("c++") or shutil.which("g++")
    way_out = "" if compiler else "Horovod is built from source: install g++ (Debian: apt install g++ make)"
    yield Finding(topic="C++ compiler", state="ok" if compiler else "note", found=compiler or "none", way_out=way_out)


def _disk(folder: Path) -> Iterator[Finding]:
    existing = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(existing).free
    if not os.access(existing, os.W_OK):
        yield Finding(
            topic="reports", state="lacks", found=f"{existing} is not writable", way_out="name another: --ls-report-dir"
        )
        return
    enough = free >= ENOUGH_BYTES
    way_out = "" if enough else f"runs go to {existing}: free some space or name another folder with --ls-report-dir"
    yield Finding(topic="disk", state="ok" if enough else "note", found=f"{free / 1e9:.1f} GB free", way_out=way_out)


def _ask(command: list[str]) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
