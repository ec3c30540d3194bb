"""Finding what a build needs on this machine: compiler, Python's headers, make, cmake, CUDA and NCCL."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from harness.errors import MissingRequirementError

CMAKE_MINIMUM = (3, 13)
TOOLKITS = ("/usr/local/cuda",)
_PROBE = "#include <Python.h>\n#include <string>\nint main() { return 0; }\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Nccl:
    """NVIDIA's collectives and the CUDA toolkit to build against them."""

    cuda_home: Path
    include: Path
    library: Path


def compiler(cxx_standard: int) -> str:
    """Return a C++ compiler that compiles Python's headers with ``cxx_standard``; ``CXX`` is asked first.

    Raises:
        MissingRequirementError: there is none, it is too old, or Python's headers are absent.
    """
    if shutil.which("make") is None:
        raise MissingRequirementError("expected make but found none; install it (Debian: apt install build-essential)")
    candidates = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    found = [name for name in candidates if shutil.which(name.split()[0])]
    if not found:
        raise MissingRequirementError(
            f"expected a C++ compiler but found none of {', '.join(candidates)}; "
            "install one (Debian: apt install g++), or name it in CXX"
        )
    include = sysconfig.get_path("include")
    if not (Path(include) / "Python.h").is_file():
        raise MissingRequirementError(
            f"expected Python's headers but found no {include}/Python.h; install them (Debian: apt install python3-dev)"
        )
    command = [*found[0].split(), f"-std=c++{cxx_standard}", f"-I{include}", "-fsyntax-only", "-x", "c++", "-"]
    result = subprocess.run(command, input=_PROBE, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise MissingRequirementError(
            f"expected {found[0]} to compile C++{cxx_standard}, which the installed PyTorch needs, but it said "
            f"{result.stderr.strip()[:300]!r}; install a newer one (GCC >= 10, Clang >= 10), or name it in CXX"
        )
    return found[0]


def cmake(tools: Path) -> str:
    """Return a working cmake >= 3.13: ``HOROVOD_CMAKE``, the machine's, or the PyPI package installed into ``tools``.

    Raises:
        MissingRequirementError: none works and pip could not install one.
    """
    for candidate in (os.environ.get("HOROVOD_CMAKE"), shutil.which("cmake"), _packaged_cmake(tools)):
        if candidate and cmake_version(candidate) >= CMAKE_MINIMUM:
            return candidate
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tools), "cmake"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    packaged = _packaged_cmake(tools)
    if packaged is None or cmake_version(packaged) < CMAKE_MINIMUM:
        raise MissingRequirementError(
            "expected cmake >= 3.13 but found none, and pip could not install it; install it (Debian: apt install "
            f"cmake), or name it in HOROVOD_CMAKE. pip said: {result.stderr.strip()[-300:]!r}"
        )
    return packaged


def cmake_version(path: str) -> tuple[int, ...]:
    """Return the version of the cmake at ``path``; (0,) when it does not run, as a script of another environment."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return (0,)
    match = re.search(r"version\s+(\d+)\.(\d+)", said)
    return tuple(map(int, match.groups())) if match else (0,)


def _packaged_cmake(tools: Path) -> str | None:
    """Return the program inside the PyPI package; the script that pip writes works only with the package importable."""
    program = tools / "cmake" / "data" / "bin" / "cmake"
    return str(program) if program.is_file() else None


def arch_flags() -> tuple[str, ...]:
    """Return the vector extensions of this CPU that Horovod has code for (16-bit floats and all-reduce kernels)."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        return ()
    info = Path("/proc/cpuinfo")
    flags = set(re.findall(r"\w+", info.read_text(encoding="utf-8"))) if info.is_file() else set()
    return tuple(f"-m{name}" for name in ("f16c", "avx", "fma") if name in flags)


def has_gpu() -> bool:
    """Whether an NVIDIA GPU can be used on this machine."""
    return Path("/dev/nvidiactl").exists()


def nccl() -> Nccl | None:
    """Return where NCCL and the CUDA toolkit lie, or None unless both can be built against.

    ``HOROVOD_NCCL_HOME`` and ``HOROVOD_CUDA_HOME`` are asked first, then the system, then the ``nvidia-nccl`` wheel
    that PyTorch brings.
    """
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("HOROVOD_CUDA_HOME"), os.environ.get("CUDA_HOME"), *TOOLKITS]
    homes.append(str(Path(nvcc).resolve().parents[1]) if nvcc else None)
    cuda_home = next((Path(home) for home in homes if home and _is_toolkit(Path(home))), None)
    if cuda_home is None:
        return None
    given = os.environ.get("HOROVOD_NCCL_HOME")
    roots = [Path(given)] if given else [cuda_home, Path("/usr"), Path("/usr/local"), *_packaged_nccl()]
    for root in roots:
        library = next(
            (
                path
                for name in ("lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu")
                for path in sorted((root / name).glob("libnccl.so*"))
            ),
            None,
        )
        if library and (root / "include" / "nccl.h").is_file():
            return Nccl(cuda_home=cuda_home, include=root / "include", library=library)
    return None


def _is_toolkit(home: Path) -> bool:
    return (home / "bin" / "nvcc").is_file() and (home / "include" / "cuda_runtime.h").is_file()


def _packaged_nccl() -> list[Path]:
    spec = importlib.util.find_spec("nvidia")
    return [Path(place) / "nccl" for place in (spec.submodule_search_locations or [])] if spec else []
