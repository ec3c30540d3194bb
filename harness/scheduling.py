"""Where tests run under pytest-xdist: all cases of a framework on one worker, so that each is imported once.

pytest-xdist's own ``--dist loadgroup`` writes the group into a test's id, which pytest 9.2 no longer lets it do; so the
workers leave a note of the groups in the scratch folder that they share with the controller.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

NOTE = "groups.json"
# Of pytest-xdist's ways to distribute tests, the ones that leave the choice of the worker to us.
DISTRIBUTED = ("load", "loadgroup")


def note_groups(items: list[pytest.Item], scratch: Path) -> None:
    """Write down, in a worker, which tests belong together; every worker finds the same."""
    groups = {item.nodeid: group for item in items if (group := _group(item)) is not None}
    beside = scratch / f".{NOTE}.{os.getpid()}"
    beside.write_bytes(msgspec.json.encode(groups))
    beside.replace(scratch / NOTE)


class Scheduling:
    """pytest-xdist's usual scheduler, or, once the workers have noted groups, one that gives a group to one worker.

    The second one needs a time that grows with the square of the number of tests: it is for sessions with cases only.
    """

    def __init__(self, config: pytest.Config, log: Any, scratch: Path) -> None:
        from xdist import scheduler  # pytest-xdist is optional, and here if this is called

        usual = {"load": scheduler.LoadScheduling, "loadgroup": scheduler.LoadGroupScheduling}
        self._chosen: Any = usual[config.getoption("dist")](config, log)
        self._grouped: Any = scheduler.LoadScopeScheduling(config, log)
        self._grouped._split_scope = lambda nodeid: self._groups.get(nodeid, nodeid)
        self._note = scratch / NOTE
        self._groups: dict[str, str] = {}
        self._started = False

    def add_node(self, node: Any) -> None:
        """Take in a worker."""
        for one in self._candidates():
            one.add_node(node)

    def add_node_collection(self, node: Any, collection: Any) -> None:
        """Take in the tests that a worker has found."""
        for one in self._candidates():
            one.add_node_collection(node, collection)

    def remove_node(self, node: Any) -> str | None:
        """Let go of a worker; return the test it died of, which no other worker shall die of, too."""
        fatal: str | None = None
        if self._started and self._chosen is self._grouped:
            # The scheduler would hand that test out again, until no worker may be restarted and the rest is never run.
            fatal = _take_running(self._grouped.assigned_work[node])
            self._grouped.remove_node(node)
            return fatal
        for one in self._candidates():
            fatal = one.remove_node(node)
        return fatal

    def schedule(self) -> None:
        """Start to distribute tests; by now every worker has left its note, or has none to leave."""
        if not self._started and self._note.exists():
            self._groups = msgspec.json.decode(self._note.read_bytes(), type=dict[str, str])
            self._chosen = self._grouped
        self._started = True
        self._chosen.schedule()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chosen, name)

    def _candidates(self) -> tuple[Any, ...]:
        return (self._chosen,) if self._started else (self._chosen, self._grouped)


def _take_running(units: dict[str, dict[str, bool]]) -> str | None:
    """Return the first test that a worker has not completed, which now counts as completed."""
    for unit in units.values():
        for test, completed in unit.items():
            if not completed:
                unit[test] = True
                return test
    return None


def _group(item: pytest.Item) -> str | None:
    names = {str(mark.args[0] if mark.args else mark.kwargs.get("name")) for mark in item.iter_markers("xdist_group")}
    return "_".join(sorted(names)) if names else None
