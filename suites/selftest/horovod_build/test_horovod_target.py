import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import MissingRequirementError
from harness.horovod_build import target
from harness.horovod_build.target import Target
from harness.horovod_build.toolchain import Nccl

BOTH = Target(
    torch="2.15.0+cu132",
    tensorflow="2.21.0",
    python="cpython-311",
    arch_flags=("-mf16c", "-mavx", "-mfma"),
    cxx_standard=20,
    gpu=False,
)


def only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be found but what lies in ``folder``, not even what another test has imported."""
    monkeypatch.setattr("sys.path", [str(folder)])
    for name in ("torch", "tensorflow"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def fake_packages(root: Path, *, torch_cuda: str | None, tensorflow_cuda: bool) -> None:
    """Write what is read of installed frameworks: files of the same names with the same variables."""
    (root / "torch" / "utils").mkdir(parents=True)
    (root / "torch" / "__init__.py").write_text("raise AssertionError('must not be imported')")
    (root / "torch" / "version.py").write_text(f"__version__ = '9.1.0+x'\ncuda = {torch_cuda!r}\n")
    (root / "torch" / "utils" / "cpp_extension.py").write_text("flags = ['-std=c++17', '-std=c++23']\n")
    info = root / "tensorflow" / "python" / "platform"
    info.mkdir(parents=True)
    (root / "tensorflow" / "__init__.py").write_text("raise AssertionError('must not be imported')")
    (info / "build_info.py").write_text(f"build_info = {{'is_cuda_build': {tensorflow_cuda}}}\n")
    meta = root / "tensorflow_cpu-8.2.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorflow_cpu\nVersion: 8.2\n")
    (meta / "top_level.txt").write_text("tensorflow\n")


def test_a_wheels_version_names_the_frameworks_it_fits_and_satisfies_the_release() -> None:
    packaging = pytest.importorskip("packaging.version")
    version = packaging.Version(BOTH.version)
    assert BOTH.version.startswith("0.28.1+torch2.15.0.cu132.tf2.21.0.b")
    assert str(version) == BOTH.version, "pip must not write it another way, or the cache would never find it"
    assert version.public == "0.28.1"


@pytest.mark.parametrize(
    "other",
    [
        replace(BOTH, torch="2.14.0"),
        replace(BOTH, tensorflow=None),
        replace(BOTH, python="cpython-312"),
        replace(BOTH, arch_flags=()),
        replace(BOTH, cxx_standard=17),
        replace(BOTH, gpu=True),
    ],
)
def test_whatever_a_wheel_depends_on_is_in_its_version(other: Target) -> None:
    assert other.version != BOTH.version


def test_the_frameworks_are_found_without_importing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_packages(tmp_path, torch_cuda=None, tensorflow_cuda=False)
    only(tmp_path, monkeypatch)
    found = target.probe(gpu=False)
    assert (found.torch, found.tensorflow, found.cxx_standard) == ("9.1.0+x", "8.2", 23)
    assert not target.has_cuda_framework()


def test_a_gpu_build_leaves_a_tensorflow_without_cuda_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_packages(tmp_path, torch_cuda="13.2", tensorflow_cuda=False)
    only(tmp_path, monkeypatch)
    found = target.probe(gpu=True)
    assert (found.torch, found.tensorflow, found.gpu) == ("9.1.0+x", None, True)


def test_without_a_framework_nothing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(tmp_path, monkeypatch)
    with pytest.raises(MissingRequirementError, match=r"expected PyTorch or TensorFlow but .*`make setup`"):
        target.probe(gpu=False)


def test_a_gpu_build_without_a_cuda_framework_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_packages(tmp_path, torch_cuda=None, tensorflow_cuda=False)
    only(tmp_path, monkeypatch)
    with pytest.raises(MissingRequirementError, match="expected a CUDA build"):
        target.probe(gpu=True)


def test_the_build_environment_is_exactly_this() -> None:
    assert target.build_environment(BOTH, compiler="g++", cmake="/x/cmake", num_jobs=2) == {
        "CXX": "g++",
        "CXXFLAGS": "-w -include cstdint -include stdexcept -include string",
        "LDFLAGS": "-Wl,--as-needed",
        "MAKEFLAGS": "-j2",
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
        "HOROVOD_CMAKE": "/x/cmake",
        "HOROVOD_LOCAL_VERSION": BOTH.local_version,
        "HOROVOD_BUILD_ARCH_FLAGS": "-mf16c -mavx -mfma",
        "HOROVOD_WITH_GLOO": "1",
        "HOROVOD_WITHOUT_MPI": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_WITH_PYTORCH": "1",
        "HOROVOD_WITH_TENSORFLOW": "1",
    }


def test_a_framework_that_is_absent_is_built_without() -> None:
    alone = target.build_environment(replace(BOTH, torch=None), compiler="g++", cmake="cmake", num_jobs=1)
    assert alone["HOROVOD_WITHOUT_PYTORCH"] == "1"
    assert "HOROVOD_WITH_PYTORCH" not in alone


def test_a_gpu_build_links_nccl_under_the_name_that_a_linker_looks_for(tmp_path: Path) -> None:
    library = tmp_path / "libnccl.so.2"
    library.write_bytes(b"")
    found = Nccl(cuda_home=Path("/cuda"), include=Path("/nccl/include"), library=library)
    links = tmp_path / "links"
    settings = target.nccl_environment(found, links, {"HOROVOD_GPU_OPERATIONS": "MPI"})
    assert settings == {
        "HOROVOD_GPU_OPERATIONS": "MPI",
        "HOROVOD_CUDA_HOME": "/cuda",
        "HOROVOD_NCCL_LINK": "shared",
        "HOROVOD_NCCL_INCLUDE": "/nccl/include",
        "HOROVOD_NCCL_LIB": str(links),
    }
    assert (links / "libnccl.so").samefile(library)
