from pathlib import Path

import pytest

from harness.errors import MissingRequirementError
from harness.horovod_build import toolchain


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory as the whole PATH, with make in it."""
    for name in ("CXX", "HOROVOD_CMAKE", "HOROVOD_CUDA_HOME", "HOROVOD_NCCL_HOME", "CUDA_HOME"):
        monkeypatch.delenv(name, raising=False)
    directory = tmp_path / "bin"
    monkeypatch.setenv("PATH", str(directory))
    program(directory / "make", "exit 0")
    return directory


def test_without_a_compiler_the_way_out_is_named(tools: Path) -> None:
    with pytest.raises(MissingRequirementError, match=r"found none of c\+\+, g\+\+, clang\+\+; install one .*CXX"):
        toolchain.compiler(20)


def test_without_make_the_way_out_is_named(tools: Path) -> None:
    (tools / "make").unlink()
    with pytest.raises(MissingRequirementError, match=r"expected make .* build-essential"):
        toolchain.compiler(20)


def test_a_compiler_that_is_too_old_is_told_with_its_own_words(tools: Path) -> None:
    program(tools / "g++", "echo 'unrecognized option -std=c++20' >&2; exit 1")
    with pytest.raises(MissingRequirementError, match=r"g\+\+ to compile C\+\+20.*unrecognized option"):
        toolchain.compiler(20)


def test_the_compiler_in_cxx_goes_first_with_its_options(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tools / "g++", "exit 1")
    program(tools / "mine", '[ "$1" = --fast ]')
    monkeypatch.setenv("CXX", "mine --fast")
    assert toolchain.compiler(20) == "mine --fast"


def test_missing_python_headers_are_told_before_a_compiler_is_blamed(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tools / "g++", "exit 1")
    monkeypatch.setattr("sysconfig.get_path", lambda _name: "/nowhere")
    with pytest.raises(MissingRequirementError, match=r"no /nowhere/Python\.h; .*python3-dev"):
        toolchain.compiler(20)


def test_a_cmake_that_does_not_run_or_is_too_old_counts_as_none(tools: Path) -> None:
    broken = program(tools / "broken", "echo No module named cmake >&2; exit 1")
    old = program(tools / "old", "echo cmake version 3.10.2")
    assert toolchain.cmake_version(str(broken)) == (0,)
    assert toolchain.cmake_version(str(tools / "absent")) == (0,)
    assert toolchain.cmake_version(str(old)) < toolchain.CMAKE_MINIMUM


def test_the_machines_cmake_is_used_unless_another_is_named(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = program(tools / "cmake", "echo cmake version 3.25.1")
    assert toolchain.cmake(tools / "none") == str(mine)
    other = program(tools / "other", "echo cmake version 4.4.4")
    monkeypatch.setenv("HOROVOD_CMAKE", str(other))
    assert toolchain.cmake(tools / "none") == str(other)


def test_the_program_inside_the_package_is_used_rather_than_pips_script(tools: Path) -> None:
    program(tools / "cmake", "echo No module named cmake >&2; exit 1")
    packaged = program(tools / "t" / "cmake" / "data" / "bin" / "cmake", "echo cmake version 4.4.4")
    assert toolchain.cmake(tools / "t") == str(packaged)


def test_without_cmake_and_without_pip_the_way_out_is_named(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = program(tools / "python", "echo no network >&2; exit 1")
    monkeypatch.setattr("sys.executable", str(pip))
    with pytest.raises(MissingRequirementError, match=r"apt install cmake.*HOROVOD_CMAKE.*no network"):
        toolchain.cmake(tools / "none")


def test_nccl_counts_only_with_a_toolkit_to_build_against(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, nccl = tools / "cuda", tools / "nccl"
    (nccl / "lib").mkdir(parents=True)
    (nccl / "include").mkdir()
    (nccl / "lib" / "libnccl.so.2").write_bytes(b"")
    (nccl / "include" / "nccl.h").write_text("")
    monkeypatch.setenv("HOROVOD_NCCL_HOME", str(nccl))
    monkeypatch.setattr(toolchain, "TOOLKITS", (str(cuda),))
    program(cuda / "bin" / "nvcc", "exit 0")
    assert toolchain.nccl() is None
    (cuda / "include").mkdir()
    (cuda / "include" / "cuda_runtime.h").write_text("")
    found = toolchain.nccl()
    assert found == toolchain.Nccl(cuda_home=cuda, include=nccl / "include", library=nccl / "lib" / "libnccl.so.2")
    (nccl / "include" / "nccl.h").unlink()
    assert toolchain.nccl() is None


def test_the_vector_extensions_are_among_those_horovod_has_code_for() -> None:
    assert set(toolchain.arch_flags()) <= {"-mf16c", "-mavx", "-mfma"}
