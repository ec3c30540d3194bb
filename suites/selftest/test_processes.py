"""A process is told by a name that no other process ever has."""

from __future__ import annotations

import subprocess
import sys

from harness import processes


def test_a_process_lives_until_it_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        name = processes.name(child.pid)
        assert processes.lives(name) is True
        assert processes.lives(processes.name()) is True
    assert processes.lives(name) is False


def test_another_process_of_the_same_number_is_not_it() -> None:
    place, _, start = processes.name().rpartition("/")
    assert processes.lives(f"{place}/{int(start) + 1}") is False


def test_a_process_that_was_killed_and_not_yet_buried_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        name = processes.name(child.pid)
        child.kill()
        assert child.stdout is not None
        child.stdout.read()  # which ends with the process
        while processes.lives(name):
            pass
        assert child.returncode is None


def test_of_a_process_elsewhere_nothing_is_claimed() -> None:
    for name in ("", "nonsense", "another-host/pid:[1]/17/123", processes.name().replace("/pid:", "/other:")):
        assert processes.lives(name) is None
