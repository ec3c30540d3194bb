"""The machine is described without importing a framework, and its cores are shared out fairly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.measure import machine


def test_the_environment_is_flat_and_names_no_host() -> None:
    facts = machine.environment()
    assert all(isinstance(value, str | int | float) for value in facts.values())
    assert {"python", "platform", "kernel", "num_cores", "memory_bytes", "load_average", "numpy"} <= set(facts)
    assert not any("host" in name for name in facts)
    assert facts["num_cores"] == len(machine.cores())


def test_nothing_is_imported_to_learn_a_version() -> None:
    code = (
        "import sys; from harness.measure import machine; machine.environment();"
        "loaded = {'torch', 'tensorflow', 'keras', 'horovod', 'scipy'} & set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(machine.__file__).parents[2])


def test_a_repository_with_changes_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "commit" not in machine.environment()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--no-verify", "-m", "one"], check=True)
    clean = str(machine.environment()["commit"])
    assert len(clean) == 40
    (tmp_path / "file").write_text("2")
    assert machine.environment()["commit"] == f"{clean}-dirty"


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two physical cores of two hardware threads each, numbered as Linux does: 0 and 2 are one core."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {3, 1, 2, 0}, raising=False)
    monkeypatch.setattr(machine, "_place", lambda core: (0, core % 2))


@pytest.mark.usefixtures("four_cores")
def test_a_share_holds_whole_physical_cores() -> None:
    assert machine.cores() == (0, 2, 1, 3)
    assert machine.shares(2) == [(0, 2), (1, 3)]


@pytest.mark.usefixtures("four_cores")
def test_shares_are_of_one_size_and_do_not_overlap() -> None:
    for world_size in (1, 2, 3, 4):
        shares = machine.shares(world_size)
        assert len(shares) == world_size
        assert {len(share) for share in shares} == {4 // world_size}
        every = [core for share in shares for core in share]
        assert len(every) == len(set(every))


@pytest.mark.usefixtures("four_cores")
def test_more_ranks_than_cores_take_turns() -> None:
    assert machine.shares(6) == [(0,), (2,), (1,), (3,), (0,), (2,)]


def test_the_shares_of_this_machine_are_cores_it_has() -> None:
    assert set(machine.shares(1)[0]) == set(machine.cores())


def test_no_gpu_is_counted_where_none_may_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.cuda_devices() == 0
    assert "gpu_model" not in machine.environment()


def test_the_model_of_the_gpus_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.measure.nvml.models", lambda _variables: "NVIDIA H100")
    assert machine.environment()["gpu_model"] == "NVIDIA H100"


@pytest.mark.parametrize(("quota", "usable"), [(None, 16), (2.0, 2), (2.9, 2), (0.5, 1), (64.0, 16)])
def test_a_containers_quota_leaves_fewer_cores_than_are_seen(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, usable: int
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: tuple(range(16)))
    monkeypatch.setattr(machine, "_cpu_quota", lambda: quota)
    assert machine.num_usable_cores() == usable


def test_shares_can_be_of_one_size_at_every_world_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: tuple(range(8)))
    assert [len(machine.shares(size, 4)[0]) for size in (1, 2, 4, 8)] == [2, 2, 2, 1]
    assert machine.shares(2, 4) == [(0, 1), (2, 3)]
    assert machine.shares(2, 100) == [(0,), (1,)], "more ranks than cores anywhere leave each a core"
