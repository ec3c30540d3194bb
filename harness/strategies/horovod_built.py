"""Which frameworks the installed Horovod was built for: with another one its library does not load, or crashes.

A wheel that ``python -m harness.horovod_build`` has built says it in its version: ``0.28.1+torch2.15.0.cu132.tf2.21.0``
and a digest. Of wheels from elsewhere nothing is known.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
import runpy
from pathlib import Path

# What the wheel's version calls a framework.
SHORT = {"torch": "torch", "tensorflow": "tf"}


def tag(framework: str, version: str) -> str:
    """Return how a wheel says that it was built for a framework: ``torch2.15.0.cu132``."""
    return SHORT[framework] + re.sub(r"[^0-9A-Za-z]+", ".", version)


@functools.cache
def misfit(framework: str) -> str | None:
    """Return why the installed Horovod cannot be used with the installed ``framework``, or None; looked up once."""
    try:
        local = importlib.metadata.version("horovod").partition("+")[2]
    except importlib.metadata.PackageNotFoundError:
        return None
    version = {"torch": torch_version, "tensorflow": tensorflow_version}[framework]()[0]
    return told(framework, version, local)


def told(framework: str, version: str | None, local: str) -> str | None:
    """Return what does not fit between a framework and the local part of a wheel's version, or None."""
    names = "|".join(SHORT.values())
    built = re.findall(rf"(?:{names})\d.*?(?=\.(?:{names})\d|\.b[0-9a-f]{{8}}$|$)", local)
    if version is None or not built or tag(framework, version) in built:
        return None
    return (
        f"needs a Horovod that was built for {framework} {version}, but the installed one was built for "
        f"{' and '.join(built)}; build it again: make horovod"
    )


def torch_version() -> tuple[str | None, bool]:
    """Return PyTorch's version (with what it was built for) and whether that is CUDA, without importing it."""
    path = inside("torch", "version.py")
    if path is None:
        return None, False
    found = runpy.run_path(str(path))
    return str(found["__version__"]), found.get("cuda") is not None


def tensorflow_version() -> tuple[str | None, bool]:
    """Return TensorFlow's version and whether it was built with CUDA, without importing it."""
    path = inside("tensorflow", "python/platform/build_info.py")
    if path is None:
        return None, False
    names = importlib.metadata.packages_distributions().get("tensorflow", [])
    versions = [importlib.metadata.version(name) for name in names]
    cuda = bool(runpy.run_path(str(path))["build_info"].get("is_cuda_build"))
    return (versions[0], cuda) if versions else (None, False)


def inside(package: str, file: str) -> Path | None:
    """Return where a file of an installed package lies, or None."""
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return next((Path(place) / file for place in places or [] if (Path(place) / file).is_file()), None)
