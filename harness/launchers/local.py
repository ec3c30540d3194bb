"""Ranks on this machine: the pool of zygotes that a pytest process keeps."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from harness.errors import MissingRequirementError
from harness.launchers import guardian
from harness.launchers.causes import RankFailure
from harness.launchers.family import Family, ZygoteLostError
from harness.launchers.session import Group, OnEvent, Session
from harness.record import Trace

__all__ = ["Pool", "Group", "Session", "RankFailure", "ZygoteLostError"]


class Pool:
    """The zygotes of this process, one a family, started when first needed; one session of ranks at a time.

    Args:
        preload: returns the modules that the zygote of a family imports.
    """

    def __init__(self, preload: Callable[[str], Sequence[str]]) -> None:
        self._preload = preload
        self._families: dict[str, Family] = {}
        self._in_session = False

    def warm(self, family: str) -> None:
        """Start the zygote of a family, or another one for it if it died, without waiting for its imports.

        Raises:
            MissingRequirementError: this is no Linux, or one without pidfds.
        """
        require_linux()
        known = self._families.get(family)
        if known is not None and known.alive():
            return
        if known is not None:
            known.close()
        self._families[family] = Family(family, self._preload(family))

    def run(
        self, groups: Sequence[Group], *, timeout_s: float, on_event: OnEvent | None = None
    ) -> list[tuple[Trace, ...]]:
        """Run the ranks of all groups side by side and return the traces of each group, ordered by rank.

        Args:
            groups: what to start, all at once.
            timeout_s: ranks have hung when none has said anything for so long.
            on_event: is told what each process says; processes are numbered over all groups.

        Raises:
            RankFailure: a rank raised, died, hung or left something behind; every rank is dead by then.
            ZygoteLostError: a zygote died.
            BrokenPluginError: a zygote cannot import its modules.
            MissingRequirementError: this is no Linux.
        """
        with self.open(groups, timeout_s=timeout_s, on_event=on_event) as session:
            return session.results()

    @contextmanager
    def open(self, groups: Sequence[Group], *, timeout_s: float, on_event: OnEvent | None = None) -> Iterator[Session]:
        """Start the ranks of all groups and hand them over, for timing in turns; whoever is left at last is killed."""
        assert not self._in_session, "one session at a time: what one leaves behind would be taken for another's rank"
        names = list(dict.fromkeys(group.family for group in groups))
        for name in names:
            self.warm(name)
        for name in names:
            self._families[name].wait_until_ready()
        self._in_session = True
        # Zygotes that no group uses belong to it, too: they are stopped while something is timed.
        session = Session(groups, list(self._families.values()), timeout_s, on_event)
        try:
            session.start()
            yield session
        finally:
            self._in_session = False
            session.end()

    def close(self) -> None:
        """End every zygote and all below them."""
        while self._families:
            self._families.popitem()[1].close()


def require_linux() -> None:
    """Raise MissingRequirementError where ranks cannot be forked and supervised."""
    if sys.platform != "linux":
        raise MissingRequirementError(f"expected Linux, whose pidfds tell when a rank dies, but this is {sys.platform}")
    try:
        os.close(guardian.open_pidfd(os.getpid()))
    except OSError as error:
        raise MissingRequirementError(
            f"expected Linux 5.3 or newer, with pidfds allowed, but pidfd_open: {error}"
        ) from error
