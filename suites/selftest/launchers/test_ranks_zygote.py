"""Zygotes: what they import, when they refuse to fork, and what becomes of one that dies."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness.errors import BrokenPluginError, MissingRequirementError, RankError
from harness.launchers import guardian
from harness.launchers.local import Group, Pool, ZygoteLostError

MakeGroup = Callable[..., Group]
MakePool = Callable[[str], Pool]


@pytest.fixture
def pool_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePool]:
    """Make a pool whose zygotes import a module with this source."""
    with contextlib.ExitStack() as stack:

        def make(source: str) -> Pool:
            (tmp_path / "preloaded.py").write_text(source)
            monkeypatch.syspath_prepend(tmp_path)
            return stack.enter_context(contextlib.closing(Pool(lambda _family: ("preloaded",))))

        yield make


def test_a_module_that_does_not_import_is_named_with_its_traceback(pool_importing: MakePool, group: MakeGroup) -> None:
    pool = pool_importing("import a_library_that_is_not_there\n")
    with pytest.raises(BrokenPluginError, match="expected the plain zygote to import 'preloaded'") as caught:
        pool.run([group("ok")], timeout_s=30)
    assert "No module named 'a_library_that_is_not_there'" in str(caught.value)
    assert "preloaded.py" in str(caught.value)


def test_a_zygote_is_started_again_once_its_module_is_mended(
    pool_importing: MakePool, group: MakeGroup, tmp_path: Path
) -> None:
    pool = pool_importing("raise SystemExit(1)\n")
    with pytest.raises(BrokenPluginError):
        pool.run([group("ok")], timeout_s=30)
    (tmp_path / "preloaded.py").write_text("# Mended, and longer than before so that no cached bytecode fits.\n")
    assert pool.run([group("ok")], timeout_s=30)


def test_a_zygote_with_a_thread_refuses_to_fork_ranks_that_would_hang(
    pool_importing: MakePool, group: MakeGroup
) -> None:
    pool = pool_importing("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n")
    with pytest.raises(RankError, match=r"\(it has imported preloaded\) can fork no rank: it has threads besides"):
        pool.run([group("ok")], timeout_s=30)


def test_a_zygote_that_dies_of_an_import_is_told_with_its_output(pool_importing: MakePool, group: MakeGroup) -> None:
    pool = pool_importing("import os\nprint('a driver is missing', flush=True)\nos.abort()\n")
    with pytest.raises(ZygoteLostError) as caught:
        pool.run([group("ok")], timeout_s=30)
    assert str(caught.value).startswith("the plain zygote, importing preloaded, was killed by SIGABRT")
    assert "a driver is missing" in str(caught.value)


def test_a_zygote_killed_between_two_runs_is_replaced_unnoticed(pool_importing: MakePool, group: MakeGroup) -> None:
    pool = pool_importing("")
    before = set(psutil.Process().children())
    pool.run([group("ok")], timeout_s=30)
    (guard,) = set(psutil.Process().children()) - before
    (zygote,) = guard.children()
    zygote.kill()
    psutil.wait_procs([zygote])
    assert len(pool.run([group("ok")], timeout_s=30)[0]) == 2


def test_warming_does_not_wait_for_the_imports(pool_importing: MakePool, group: MakeGroup) -> None:
    pool = pool_importing("import time\ntime.sleep(0.3)\n")
    start_s = time.monotonic()
    pool.warm("one")
    pool.warm("two")
    assert time.monotonic() - start_s < 0.3
    both = Group(family="one", jobs=group("ok", 1).jobs), Group(family="two", jobs=group("steps", 1).jobs)
    assert len(pool.run(both, timeout_s=30)) == 2


def test_closing_a_pool_ends_its_guardians_and_closes_their_files(pool_importing: MakePool, group: MakeGroup) -> None:
    children, files = set(psutil.Process().children()), psutil.Process().num_fds()
    pool = pool_importing("")
    pool.run([group("ok")], timeout_s=30)
    pool.close()
    assert set(psutil.Process().children()) == children
    assert psutil.Process().num_fds() == files


def test_many_runs_leave_no_file_open(pool: Pool, group: MakeGroup) -> None:
    pool.run([group("ok")], timeout_s=30)
    files = psutil.Process().num_fds()
    for _ in range(20):
        pool.run([group("ok")], timeout_s=30)
    assert psutil.Process().num_fds() == files


def test_other_systems_are_told_why_ranks_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(MissingRequirementError, match=r"expected Linux.* but this is darwin"):
        Pool(lambda _family: ()).warm("torch")


def test_a_kernel_without_pidfds_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(guardian, "open_pidfd", refuse)
    with pytest.raises(MissingRequirementError, match=r"expected Linux 5\.3 or newer.*Function not implemented"):
        Pool(lambda _family: ()).warm("torch")


def test_descendants_are_found_through_processes_that_have_ended(pool: Pool, group: MakeGroup) -> None:
    pool.run([group("ok")], timeout_s=30)
    expected = {child.pid for child in psutil.Process().children(recursive=True)}
    assert set(guardian.descendants(os.getpid())) == expected
    assert expected


def test_system_calls_work_without_pythons_wrappers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.pidfd_open")
    monkeypatch.delattr("signal.pidfd_send_signal")
    pidfd = guardian.open_pidfd(os.getpid())
    try:
        guardian.send_signal(pidfd, 0)
    finally:
        os.close(pidfd)
    with pytest.raises(ProcessLookupError):
        guardian.open_pidfd(2**22 + 1)
