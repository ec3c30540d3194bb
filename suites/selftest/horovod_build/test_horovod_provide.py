from pathlib import Path

import pytest

from harness.errors import BuildError, MissingRequirementError
from harness.horovod_build import __main__ as horovod_build
from harness.horovod_build import check, target
from harness.horovod_build.target import Target

WANTED = Target(torch="2.15.0", tensorflow=None, python="cpython-311", arch_flags=(), cxx_standard=20, gpu=False)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Pip, replaced by a list of what it was told to do."""
    commands: list[list[str]] = []

    def pip(title: str, arguments: list[str], log: Path) -> None:
        commands.append(arguments)

    def probe(*, gpu: bool) -> Target:
        return WANTED

    monkeypatch.setattr(horovod_build, "_pip", pip)
    monkeypatch.setattr(target, "probe", probe)
    monkeypatch.setattr(horovod_build, "installed_version", lambda: None)
    monkeypatch.setattr(check, "check", lambda frameworks: commands.append(["check", *frameworks]))
    return commands


def test_a_wheel_in_the_cache_is_installed_and_tried_but_not_built(tmp_path: Path, told: list[list[str]]) -> None:
    wheel = tmp_path / f"horovod-{WANTED.version}-cp311-cp311-linux_x86_64.whl"
    wheel.write_bytes(b"")
    horovod_build.provide(tmp_path, gpu=False, force=False)
    assert told == [["install", "--force-reinstall", "--no-deps", str(wheel)], ["check", "torch"]]


def test_a_wheel_for_other_frameworks_is_not_used(
    tmp_path: Path, told: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "horovod-0.28.1+torch2.14.0.b00000000-cp311-cp311-linux_x86_64.whl").write_bytes(b"")
    built = tmp_path / "built.whl"
    monkeypatch.setattr(horovod_build, "build", lambda _cache, _wanted: built)
    horovod_build.provide(tmp_path, gpu=False, force=False)
    assert told[0][-1] == str(built)


def test_what_is_installed_already_is_left_alone(
    tmp_path: Path, told: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(horovod_build, "installed_version", lambda: WANTED.version)
    horovod_build.provide(tmp_path, gpu=False, force=False)
    assert told == []


@pytest.mark.parametrize(("error", "code"), [(MissingRequirementError("no compiler"), 3), (BuildError("broke"), 1)])
def test_the_exit_code_tells_missing_from_broken(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def provide(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(horovod_build, "provide", provide)
    assert horovod_build.main(["--gpu=no"]) == code
    assert capsys.readouterr().out == f"Horovod is not built: {error}\n"


def test_the_cache_lies_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LOCKSTEP_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert horovod_build.default_cache() == tmp_path / ".cache" / "lockstep"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert horovod_build.default_cache() == Path("/xdg/lockstep")
    monkeypatch.setenv("LOCKSTEP_CACHE", "/mine")
    assert horovod_build.default_cache() == Path("/mine")


def test_two_builds_do_not_use_one_cache_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[float] = []

    def stop_waiting(seconds: float) -> None:
        waited.append(seconds)
        raise InterruptedError

    monkeypatch.setattr("time.sleep", stop_waiting)
    with horovod_build.alone(tmp_path), pytest.raises(InterruptedError), horovod_build.alone(tmp_path):
        raise AssertionError("both hold the cache")
    assert "Waiting for another build" in capsys.readouterr().out
    assert 0 < waited[0] <= 20


def test_ranks_that_fail_are_told_with_their_output(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("horovod", reason="needs Horovod: make horovod")
    with pytest.raises(BuildError, match=r"rank 0: exit code 1: (.|\n)*KeyError: 'jax'(.|\n)*rank 1: exit code 1"):
        check.check(["jax"])


def test_the_sum_that_is_checked_needs_both_ranks() -> None:
    total = check.expected()
    assert total.shape == (check.NUM_VALUES,)
    assert (total == check.values(0) + check.values(1)).all()
    assert (total != check.values(0)).all()
