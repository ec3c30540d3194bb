"""A measurement has the machine alone: locks that end with their process, and a word to those who wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.measure import lease

ROOT = Path(lease.__file__).parents[2]
# Says "waiting: ..." when it has to wait, "held" when it has the lease, then holds it until its input ends.
HOLD = """
import sys
from pathlib import Path
from harness.measure import lease
with getattr(lease, sys.argv[1])(Path(sys.argv[2]), on_wait=lambda text: print(text, flush=True)):
    print("held", flush=True)
    sys.stdin.read()
"""


class Holder:
    """Another process that asks for the lease."""

    def __init__(self, kind: str, path: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name != lease.HOLDER}
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, kind, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def says(self) -> str:
        """Return the next line it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ends(self) -> None:
        self.process.communicate()

    def dies(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget that this very test may run under a lease."""
    monkeypatch.delenv(lease.HOLDER, raising=False)


def test_tests_share_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "machine.lease"
    told: list[str] = []
    other = Holder("shared", path)
    assert other.says() == "held"
    with lease.shared(path, on_wait=told.append):
        assert told == []
    other.ends()


def test_a_measurement_waits_for_tests_and_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "machine.lease"
    with lease.shared(path):
        measurement = Holder("exclusive", path)
        assert measurement.says() == "waiting for the machine: other Lockstep tests must end first"
    assert measurement.says() == "held"
    measurement.ends()


def test_tests_wait_for_a_measurement_and_learn_which(tmp_path: Path) -> None:
    path = tmp_path / "machine.lease"
    with lease.exclusive(path, label="digits/torch-ddp/2/cpu"):
        test = Holder("shared", path)
        assert test.says() == (
            f"waiting for the machine: digits/torch-ddp/2/cpu (process {os.getpid()}) must end first"
        )
    assert test.says() == "held"
    test.ends()


def test_a_waiting_measurement_is_not_starved_by_new_tests(tmp_path: Path) -> None:
    path = tmp_path / "machine.lease"
    with lease.shared(path):
        measurement = Holder("exclusive", path)
        assert measurement.says().startswith("waiting")
        late = Holder("shared", path)
        assert late.says().startswith("waiting"), "the gate is closed although the machine is only shared"
    assert measurement.says() == "held"
    measurement.ends()
    assert late.says() == "held"
    late.ends()


def test_a_lease_ends_with_its_process_however_that_dies(tmp_path: Path) -> None:
    path = tmp_path / "machine.lease"
    measurement = Holder("exclusive", path)
    assert measurement.says() == "held"
    measurement.dies()
    told: list[str] = []
    with lease.exclusive(path, on_wait=told.append):
        assert told == []


def test_who_is_started_by_a_holder_does_not_wait_for_it(tmp_path: Path) -> None:
    path = tmp_path / "machine.lease"
    with lease.shared(path), lease.exclusive(path):
        assert os.environ[lease.HOLDER] == str(path)
        code = f"import pathlib, harness.measure.lease as m\nwith m.exclusive(pathlib.Path({str(path)!r})): pass"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
    assert lease.HOLDER not in os.environ


def test_the_default_is_one_file_for_a_user_and_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    with lease.exclusive():
        assert lease.machine().read_text() == f"a measurement (process {os.getpid()})"
    assert lease.machine().parent == tmp_path
    assert lease.machine().stat().st_mode & 0o077 == 0


def test_a_lease_that_cannot_be_opened_is_said_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="set TMPDIR to a folder of your own"), lease.shared(tmp_path / "no" / "lease"):
        pass
    (tmp_path / "link.lease").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="cannot open the lease"), lease.shared(tmp_path / "link.lease"):
        pass
    assert not (tmp_path / "elsewhere").exists()
