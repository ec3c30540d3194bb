"""Stamps that follow one another through an epoch: each ends a part of it, so that parts never overlap."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from harness.timings import Epoch, Part

Mark = Callable[[Part], None]


def unmarked(part: Part) -> None:
    """Take no stamp: what a check of equality, which nobody times, does instead."""


class Stopwatch:
    """Times an epoch and its parts; a stamp costs well under a microsecond.

    ``stamp`` takes a stamp, ``between`` returns the seconds from one to a later one: together they may be those of a
    device, which notes stamps when it gets there and is asked once the epoch is over. Outside of an epoch ``mark`` does
    nothing.
    """

    def __init__(
        self,
        stamp: Callable[[], Any] = time.monotonic,
        between: Callable[[Any, Any], float] = lambda first, second: second - first,
    ) -> None:
        self._stamp, self._between = stamp, between
        self._marks: list[tuple[Part, Any]] = []
        self._on = False

    def start(self, *, stamped: bool = True) -> None:
        """Begin an epoch; one that is not ``stamped`` is timed as a whole."""
        self._marks.clear()
        self._on = stamped
        self._start_s = time.monotonic()
        self._first = self._stamp() if stamped else None

    def mark(self, part: Part) -> None:
        """Count the time since the last mark, or since the start, as ``part``."""
        if self._on:
            self._marks.append((part, self._stamp()))

    def stop(self, num_samples: int) -> Epoch:
        """End the epoch, once the device has nothing left to do; what no mark has counted is "other", too."""
        end_s = time.monotonic()
        if not self._on:
            return Epoch(start_s=self._start_s, end_s=end_s, num_samples=num_samples)
        self._on = False
        parts: dict[Part, float] = {}
        last = self._first
        for part, stamp in self._marks:
            parts[part] = parts.get(part, 0.0) + self._between(last, stamp)
            last = stamp
        # A device's clock may run a little ahead of the processor's.
        parts["other"] = parts.get("other", 0.0) + max(0.0, end_s - self._start_s - sum(parts.values()))
        return Epoch(start_s=self._start_s, end_s=end_s, num_samples=num_samples, parts=parts)
