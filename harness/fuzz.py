"""Random delays that shake the schedule of ranks, so that races and stale reads may show.

A delay is a pure function of (seed, rank, site, number of the visit to that site): a schedule can be shaken again.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Iterator

from harness.spec import Job

# Three visits of four go on at once; most others wait as long as a small collective takes, few far longer.
SHORT_S, LONG_S = 0.003, 0.020
_SHORT, _LONG = 0.24, 0.01


def delay_s(seed: int, rank: int, site: str, visit: int) -> float:
    """Return for how many seconds ``rank`` waits at its visit number ``visit`` (from 0) to ``site``."""
    key = hashlib.blake2b(f"{seed}/{rank}/{site}/{visit}".encode(), digest_size=8).digest()
    # Uniform in [0, 1).
    drawn = int.from_bytes(key, "little") / 2**64
    if drawn < _LONG:
        return LONG_S
    return SHORT_S * (drawn - _LONG) / _SHORT if drawn < _LONG + _SHORT else 0.0


class Shaker:
    """Delays one rank, in whichever of its threads a site is visited; does nothing where the job has no seed."""

    def __init__(self, job: Job) -> None:
        self._seed, self._rank = job.fuzz, job.rank
        self._lock = threading.Lock()
        self._visits: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)
        self.on = job.fuzz is not None

    def pause(self, site: str) -> None:
        """Wait as long as this visit to ``site`` shall take."""
        if self._seed is None:
            return
        with self._lock:
            visit = next(self._visits[site])
        wait_s = delay_s(self._seed, self._rank, site, visit)
        if wait_s:
            time.sleep(wait_s)
