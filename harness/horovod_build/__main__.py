"""``python -m harness.horovod_build [--cache DIR]``: build Horovod for this interpreter's frameworks and install it.

The wheel is kept in a cache, keyed by everything it depends on, so that it is built once (about 2.5 minutes on two
cores). Exit codes: 0 installed and tried, 1 it did not build or does not work, 3 this machine lacks something.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.metadata
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from harness import stage
from harness.errors import BuildError, MissingRequirementError
from harness.horovod_build import check, source, target, toolchain
from harness.stage import say

BUILD_REQUIREMENTS = ("setuptools>=70.1", "wheel", "packaging", "cloudpickle", "pyyaml", "psutil", "cffi")
GIB = 2**30
EXIT_FAILED, EXIT_MISSING = 1, 3


def default_cache() -> Path:
    """Return where built wheels are kept: ``LOCKSTEP_CACHE``, else ``lockstep`` in the user's cache directory."""
    given = os.environ.get("LOCKSTEP_CACHE")
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else (Path(home) if home else Path.home() / ".cache") / "lockstep"


def cached_wheel(cache: Path, wanted: target.Target) -> Path | None:
    """Return the wheel that was built for ``wanted``, or None."""
    return next(iter(sorted(cache.glob(f"horovod-{wanted.version}-*.whl"))), None)


def installed_version() -> str | None:
    """Return the version of the installed Horovod, with what it was built for, or None."""
    try:
        return importlib.metadata.version("horovod")
    except importlib.metadata.PackageNotFoundError:
        return None


def build(cache: Path, wanted: target.Target) -> Path:
    """Build the wheel for ``wanted`` and return its place in ``cache``; the log is beside it.

    Raises:
        MissingRequirementError: a tool or the source is missing.
        BuildError: it did not compile; the end of the log has been shown.
    """
    compiler = toolchain.compiler(wanted.cxx_standard)
    log = cache / f"horovod-{wanted.version}.log"
    _pip("Checking what building needs", ["install", *BUILD_REQUIREMENTS], log)
    with tempfile.TemporaryDirectory(prefix="horovod-build-") as name:
        work = Path(name)
        cmake = toolchain.cmake(work / "tools")
        say(f"Building with {compiler}, {cmake}")
        root = source.unpack(source.download(cache), work)
        source.patch(root, source.patches(wanted.cxx_standard, gpu=wanted.gpu))
        environment = _environment(wanted, work, compiler=compiler, cmake=cmake)
        options = ["wheel", "-v", "--no-build-isolation", "--no-deps", f"--wheel-dir={work}", str(root)]
        _pip("Compiling Horovod (2 to 4 minutes on two cores)", options, log, environment)
        (wheel,) = work.glob("horovod-*.whl")
        return _moved(wheel, cache)


def _environment(wanted: target.Target, work: Path, *, compiler: str, cmake: str) -> dict[str, str]:
    # A compiler reading PyTorch's headers takes up to 2 GiB.
    memory = psutil.virtual_memory().available // (2 * GIB)
    num_jobs = max(1, min(len(os.sched_getaffinity(0)), memory))
    settings = target.build_environment(wanted, compiler=compiler, cmake=cmake, num_jobs=num_jobs)
    for name in ("CXXFLAGS", "LDFLAGS"):
        settings[name] = f"{os.environ.get(name, '')} {settings[name]}".strip()
    if wanted.gpu:
        found = toolchain.nccl()
        if found is None:
            raise MissingRequirementError(
                "expected NCCL and a CUDA toolkit for a GPU build but did not find both; name them in "
                "HOROVOD_NCCL_HOME and HOROVOD_CUDA_HOME, or build for CPUs with --gpu=no"
            )
        settings |= target.nccl_environment(found, work / "nccl", os.environ)
    return dict(os.environ) | settings


def _pip(title: str, arguments: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "pip", *arguments]
    # Of all that pip prints: what cmake finds, and make's percentages.
    if stage.run(title, command, log=log, shown=r"^\s*(-- |\[ *\d+%\])", environment=environment) != 0:
        raise BuildError(f"pip {arguments[0]} failed; the whole log is {log}")


def _moved(wheel: Path, cache: Path) -> Path:
    beside = cache / f".{wheel.name}.{os.getpid()}"
    shutil.copyfile(wheel, beside)
    return beside.replace(cache / wheel.name)


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Hold the cache for one build at a time, saying every few seconds that another one is waited for."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                say(f"Waiting for another build that uses {cache} ...")
                time.sleep(stage.TICK_S)
        yield


def provide(cache: Path, *, gpu: bool, force: bool) -> None:
    """Build Horovod unless the cache has it, install it unless it is installed, and try it.

    Raises:
        MissingRequirementError: this machine lacks something; the message names it and the way out.
        BuildError: it did not build, or does not work.
    """
    if sys.platform != "linux":
        raise MissingRequirementError(f"expected Linux, where this build has been tried, but this is {sys.platform}")
    wanted = target.probe(gpu=gpu)
    if installed_version() == wanted.version and not force:
        say(f"Horovod {wanted.version} is installed for {wanted.summary}")
        return
    say(f"Horovod {source.VERSION} for {wanted.summary}")
    if wanted.gpu:
        say("NCCL operations: Lockstep's authors have compiled such a build but never run it on GPUs")
    with alone(cache):
        wheel = None if force else cached_wheel(cache, wanted)
        say(f"Found {wheel}" if wheel else "Not in the cache: building it")
        wheel = wheel or build(cache, wanted)
    _pip("Installing it", ["install", "--force-reinstall", "--no-deps", str(wheel)], cache / "install.log")
    say(f"Trying it: {check.NUM_RANKS} ranks, float64 all-reduce ...")
    check.check([name for name in ("torch", "tensorflow") if getattr(wanted, name)])
    say(f"Horovod {wanted.version} is installed and works")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m harness.horovod_build", description=__doc__)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="built wheels (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="build and install even if there is one")
    parser.add_argument(
        "--gpu",
        choices=("auto", "yes", "no"),
        default="auto",
        help="NCCL operations; auto: where there is a GPU, NCCL, a CUDA toolkit and a CUDA build of a framework",
    )
    chosen = parser.parse_args(arguments)
    try:
        provide(chosen.cache.absolute(), gpu=wants_gpu(chosen.gpu), force=chosen.force)
    except MissingRequirementError as error:
        say(f"Horovod is not built: {error}")
        return EXIT_MISSING
    except BuildError as error:
        say(f"Horovod is not built: {error}")
        return EXIT_FAILED
    return 0


def wants_gpu(choice: str) -> bool:
    """Return whether to build for GPUs: as told, else where a build could both be made and be used."""
    if choice != "auto":
        return choice == "yes"
    return toolchain.has_gpu() and toolchain.nccl() is not None and target.has_cuda_framework()


if __name__ == "__main__":
    sys.exit(main())
