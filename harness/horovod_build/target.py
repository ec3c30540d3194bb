"""What a wheel of Horovod is built for: it fits these frameworks, this Python and this CPU, and nothing else."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import MissingRequirementError
from harness.horovod_build import source, toolchain
from harness.strategies import horovod_built as built

# What PyTorch's headers needed before cpp_extension named it.
OLDEST_CXX_STANDARD = 17


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Everything that decides whether a built wheel fits; a version is None where the framework is not installed."""

    torch: str | None
    tensorflow: str | None
    python: str
    arch_flags: tuple[str, ...]
    cxx_standard: int
    gpu: bool

    @property
    def local_version(self) -> str:
        """For example ``torch2.15.0.cu132.tf2.21.0.1a2b3c4d``: readable names and a digest of all the rest."""
        changes = [(patch.file, patch.new) for patch in source.patches(self.cxx_standard, gpu=self.gpu)]
        digest = hashlib.sha256(json.dumps([asdict(self), changes], sort_keys=True).encode()).hexdigest()[:8]
        names = [("torch", self.torch), ("tensorflow", self.tensorflow)]
        parts = [built.tag(name, version) for name, version in names if version]
        # The letter keeps a digest of digits only from being read as a number, which would lose leading zeros.
        return ".".join([*parts, f"b{digest}"])

    @property
    def version(self) -> str:
        """The version of the wheel; it satisfies ``horovod==0.28.1``."""
        return f"{source.VERSION}+{self.local_version}"

    @property
    def summary(self) -> str:
        """For example ``PyTorch 2.15.0+cu132 and TensorFlow 2.21.0, CPU operations``."""
        names = [("PyTorch", self.torch), ("TensorFlow", self.tensorflow)]
        frameworks = " and ".join(f"{name} {version}" for name, version in names if version)
        return f"{frameworks}, {'NCCL' if self.gpu else 'CPU'} operations"


def probe(*, gpu: bool) -> Target:
    """Return the target that the running interpreter asks for; no framework is imported.

    With ``gpu``, a TensorFlow that was built without CUDA is left out: Horovod would need its CUDA headers.

    Raises:
        MissingRequirementError: neither PyTorch nor TensorFlow is installed, or a GPU build has no CUDA framework.
    """
    torch, torch_cuda = built.torch_version()
    tensorflow, tensorflow_cuda = built.tensorflow_version()
    if gpu:
        torch, tensorflow = (torch if torch_cuda else None), (tensorflow if tensorflow_cuda else None)
    if torch is None and tensorflow is None:
        wanted = "a CUDA build of PyTorch or TensorFlow" if gpu else "PyTorch or TensorFlow"
        raise MissingRequirementError(
            f"expected {wanted} but {sys.executable} has none; install it first (`make setup`), then build Horovod"
        )
    return Target(
        torch=torch,
        tensorflow=tensorflow,
        python=sys.implementation.cache_tag,
        arch_flags=toolchain.arch_flags(),
        cxx_standard=_cxx_standard(),
        gpu=gpu,
    )


def has_cuda_framework() -> bool:
    """Whether a framework is installed that was built with CUDA."""
    return built.torch_version()[1] or built.tensorflow_version()[1]


def build_environment(target: Target, *, compiler: str, cmake: str, num_jobs: int) -> dict[str, str]:
    """Return the variables that steer Horovod's setup.py for ``target``."""
    return {
        "CXX": compiler,
        # gloo's sources rely on headers that GCC >= 13 no longer includes for them (upstream pull request 3957).
        "CXXFLAGS": "-w -include cstdint -include stdexcept -include string",
        # TensorFlow's library has no SONAME: without this it would be linked by its absolute path.
        "LDFLAGS": "-Wl,--as-needed",
        "MAKEFLAGS": f"-j{num_jobs}",
        # gloo asks for CMake 2.8.12, which CMake >= 4 refuses without this.
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
        "HOROVOD_CMAKE": cmake,
        "HOROVOD_LOCAL_VERSION": target.local_version,
        "HOROVOD_BUILD_ARCH_FLAGS": " ".join(target.arch_flags),
        "HOROVOD_WITH_GLOO": "1",
        "HOROVOD_WITHOUT_MPI": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        f"HOROVOD_WITH{'' if target.torch else 'OUT'}_PYTORCH": "1",
        f"HOROVOD_WITH{'' if target.tensorflow else 'OUT'}_TENSORFLOW": "1",
    }


def nccl_environment(found: toolchain.Nccl, links: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the further variables of a GPU build; ``links`` is a folder that gets ``libnccl.so``.

    Put together from a build that was compiled but never run on GPUs: 0.28.1 with PyTorch 2.13, CUDA 13.0 and the
    ``nvidia-nccl-cu13`` wheel. What the caller's environment says goes first.
    """
    links.mkdir(parents=True, exist_ok=True)
    link = links / "libnccl.so"
    link.unlink(missing_ok=True)
    link.symlink_to(found.library.resolve())
    wanted = {
        "HOROVOD_GPU_OPERATIONS": "NCCL",
        "HOROVOD_CUDA_HOME": str(found.cuda_home),
        "HOROVOD_NCCL_LINK": "shared",
        "HOROVOD_NCCL_INCLUDE": str(found.include),
        "HOROVOD_NCCL_LIB": str(links),
    }
    return {name: environ.get(name, value) for name, value in wanted.items()}


def _cxx_standard() -> int:
    path = built.inside("torch", "utils/cpp_extension.py")
    text = path.read_text(encoding="utf-8") if path else ""
    return max([OLDEST_CXX_STANDARD, *map(int, re.findall(r"-std=c\+\+(\d+)", text))])
