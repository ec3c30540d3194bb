"""The source of Horovod: which release, its checksum, and what must change for today's frameworks.

Horovod 0.28.1 (2023) is the last release. Each patch is data: where, what, and why; it must fit exactly once.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BuildError, MissingRequirementError

VERSION = "0.28.1"
ARCHIVE = f"horovod-{VERSION}.tar.gz"
SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """One replacement in one file of the source; ``why`` says what fails without it."""

    file: str
    old: str
    new: str
    why: str


def patches(cxx_standard: int, *, gpu: bool) -> tuple[Patch, ...]:
    """Return what must change; ``cxx_standard`` is the one that the installed PyTorch's headers need."""
    always = (
        Patch(
            file="CMakeLists.txt",
            old="set(CMAKE_CXX_STANDARD 14)",
            new="set(CMAKE_CXX_STANDARD 17)",
            why="TensorFlow >= 2.16 needs C++17 (upstream pull request 3998, merged, never released)",
        ),
        Patch(
            file="horovod/torch/CMakeLists.txt",
            old="set(CMAKE_CXX_STANDARD 14)",
            new=f"set(CMAKE_CXX_STANDARD {cxx_standard})",
            why="torch/all.h: 'C++17 or later compatible compiler is required' (C++20 since PyTorch 2.15)",
        ),
        Patch(
            file="horovod/tensorflow/xla_mpi_ops.cc",
            old="#if TENSORFLOW_VERSION >= 2006000000\n",
            new="#if TENSORFLOW_VERSION >= 2006000000 && TENSORFLOW_VERSION < 2016000000\n",
            why=(
                "TensorFlow's wheels miss a header that these operations need (highwayhash/arch_specific.h); they "
                "exist only for XLA on GPUs, behind HOROVOD_ENABLE_XLA_OPS (upstream pull request 4302, open)"
            ),
        ),
        Patch(
            file="setup.py",
            old="'RelWithDebInfo'",
            new="'Release'",
            why="both optimise with -O3; debug information makes the wheel 33 MB instead of 2",
        ),
    )
    cpu_only = Patch(
        file="cmake/Modules/FindPytorch.cmake",
        old='string(TOUPPER "${Pytorch_CUDA}" Pytorch_CUDA)',
        new="set(Pytorch_CUDA FALSE)",
        why=(
            "a CUDA build of PyTorch plus an nvcc makes Horovod build its GPU parts, asked or not, "
            "which fails without the toolkit's libraries"
        ),
    )
    return always if gpu else (*always, cpu_only)


def patch(root: Path, changes: Iterable[Patch]) -> None:
    """Apply every change below ``root``.

    Raises:
        BuildError: a file is absent, or the old text is not there exactly once: this is not the source it was made for.
    """
    for change in changes:
        path = root / change.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        found = text.count(change.old)
        if found != 1:
            raise BuildError(
                f"expected {change.old.strip()!r} once in {change.file} of Horovod {VERSION} but found it {found} "
                "times; harness/horovod_build/source.py must be brought up to this source"
            )
        path.write_text(text.replace(change.old, change.new), encoding="utf-8")


def verify(archive: Path, sha256: str = SHA256) -> None:
    """Raise BuildError unless ``archive`` has the checksum of the release."""
    with archive.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != sha256:
        raise BuildError(
            f"expected sha256 {sha256} for {archive.name} but got {got}; delete {archive} and try again, "
            "and look at where pip gets its packages from if that does not help"
        )


def download(directory: Path) -> Path:
    """Fetch the release into ``directory`` with pip (its index settings hold) and return the archive, verified.

    Raises:
        MissingRequirementError: pip could not get it; the message ends with what pip said.
    """
    archive = directory / ARCHIVE
    if not archive.is_file():
        # --no-build-isolation: pip runs setup.py for the metadata, which imports packages that are here already.
        options = ["--no-binary=horovod", "--no-deps", "--no-build-isolation", f"--dest={directory}"]
        command = [sys.executable, "-m", "pip", "download", "--quiet", *options, f"horovod=={VERSION}"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0 or not archive.is_file():
            said = "\n".join((result.stdout + result.stderr).strip().splitlines()[-5:])
            raise MissingRequirementError(
                f"expected pip to download {ARCHIVE} but it failed; put the file into {directory} by hand, or mend "
                f"the network or pip's settings. pip said:\n{said}"
            )
    verify(archive)
    return archive


def unpack(archive: Path, directory: Path) -> Path:
    """Unpack the verified ``archive`` into ``directory`` and return the root of the source."""
    with tarfile.open(archive) as file:
        # Python 3.11.0 to 3.11.3 have no filters; the checksum has been verified anyway.
        file.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        file.extractall(directory)  # noqa: S202 - see above
    return directory / f"horovod-{VERSION}"
