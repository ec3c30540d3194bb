"""What the ranks of a training use in their epochs, read by their supervisor so that no rank is slowed by it.

ranks:       wait                 | train an epoch, then wait again
supervisor:  counters, the order  | a look twice a second at most  | counters, a last look
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.launchers import guardian
from harness.launchers.ranks import Rank
from harness.measure import energy, nvml, resources
from harness.timings import Used

# Looks are so far apart, and so many times as far as one takes, so that all of them stay below half a per cent.
LOOK_S, LOOK_SHARE = 0.5, 200


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What was read of one rank so far; changes with every epoch. ``gpus`` are its own by NVML's numbers."""

    rank: int
    pid: int
    gpus: tuple[int, ...]
    cpu_s: float = 0.0
    memory_bytes: list[int] = field(default_factory=list)
    peak_bytes: int = 0
    gpu_bytes: int | None = None
    utilisation: list[float] = field(default_factory=list)
    energy_j: float | None = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Counters:
    """The counters of all ranks at one moment; ``packages`` and ``gpus`` hold energy."""

    at_s: float
    cpu_s: tuple[float, ...]
    packages: dict[Path, int]
    gpus: dict[int, float | None]


class Meter:
    """Adds up what the ranks of one training use from each ``begin`` to its ``end``."""

    def __init__(self, ranks: Sequence[Rank]) -> None:
        self._cuda = ranks[0].job.device == "cuda"
        shown = nvml.metered(os.environ) if self._cuda else ()
        self._ranks = [(rank.job.rank, rank.pid, _own(rank, shown, alone=len(ranks) == 1)) for rank in ranks]
        self._users = [gpu for _, _, gpus in self._ranks for gpu in gpus]
        self.forget()

    def forget(self) -> None:
        """Start again from nothing: what came before was warm-up."""
        self._tallies = [_Tally(rank=rank, pid=pid, gpus=gpus) for rank, pid, gpus in self._ranks]
        self._wall_s = 0.0

    def begin(self) -> None:
        """Read the counters before an epoch; the ranks wait for their turn."""
        self._before = self._counters()
        self._due_s = self._before.at_s + LOOK_S

    def idle(self) -> float:
        """Look at the ranks if that is due; return in how many seconds it will be."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._look()
            took_s = time.monotonic() - now_s
            self._due_s = now_s + max(LOOK_S, LOOK_SHARE * took_s)
        return max(0.0, self._due_s - time.monotonic())

    def end(self) -> None:
        """Read the counters after an epoch, and look once; the ranks wait for their turn again."""
        before, after = self._before, self._counters()
        self._wall_s += after.at_s - before.at_s
        packages_j = None if self._cuda else energy.taken_j(before.packages, after.packages)
        for number, tally in enumerate(self._tallies):
            tally.cpu_s += after.cpu_s[number] - before.cpu_s[number]
            if self._cuda:
                tally.energy_j = _plus(tally.energy_j, self._gpus_j(tally.gpus, before, after))
            else:
                tally.energy_j = _plus(tally.energy_j, packages_j, len(self._tallies))
        self._look()

    def used(self) -> tuple[Used, ...]:
        """Return the totals of all epochs since ``forget``, ordered by rank; nothing before the first."""
        if not self._wall_s:
            return ()
        found = [
            Used(
                rank=tally.rank,
                wall_s=self._wall_s,
                cpu_s=tally.cpu_s,
                memory_bytes=round(sum(tally.memory_bytes) / len(tally.memory_bytes)),
                peak_memory_bytes=tally.peak_bytes,
                gpu_memory_bytes=tally.gpu_bytes,
                gpu_utilisation=sum(tally.utilisation) / len(tally.utilisation) if tally.utilisation else None,
                energy_j=tally.energy_j,
            )
            for tally in self._tallies
        ]
        return tuple(sorted(found, key=lambda one: one.rank))

    def _counters(self) -> _Counters:
        return _Counters(
            cpu_s=tuple(resources.cpu_s(pid, guardian.descendants(pid)) for _, pid, _ in self._ranks),
            packages={} if self._cuda else energy.counters(),
            gpus={gpu: nvml.energy_j(gpu) for gpu in set(self._users)},
            at_s=time.monotonic(),
        )

    def _gpus_j(self, gpus: Sequence[int], before: _Counters, after: _Counters) -> float | None:
        """Return a rank's part of what its GPUs took; ranks that share one have equal parts of it."""
        total: float | None = 0.0 if gpus else None
        for gpu in gpus:
            start, end = before.gpus[gpu], after.gpus[gpu]
            total = _plus(total, None if start is None or end is None else end - start, self._users.count(gpu))
        return total

    def _look(self) -> None:
        """Take down what no counter keeps."""
        # A rate sooner after the beginning is also that of whoever trained before.
        ours = time.monotonic() - self._before.at_s >= nvml.RATE_S
        for tally in self._tallies:
            helpers = guardian.descendants(tally.pid)
            added = sum(map(resources.private_bytes, helpers))
            tally.memory_bytes.append(resources.resident_bytes(tally.pid) + added)
            tally.peak_bytes = max(tally.peak_bytes, resources.peak_bytes(tally.pid) + added)
            asked = tally.gpus if ours else ()
            rates = [rate for rate in map(nvml.utilisation, asked) if rate is not None]
            tally.utilisation += [sum(rates) / len(rates)] if rates else []
            held = [size for gpu in tally.gpus if (size := nvml.memory_bytes(gpu, {tally.pid, *helpers})) is not None]
            if held:
                tally.gpu_bytes = max(tally.gpu_bytes or 0, sum(held))


def _own(rank: Rank, shown: Sequence[int], *, alone: bool) -> tuple[int, ...]:
    """Return the GPUs of a rank: those of all replicas in a training of one process, else one, shared or not."""
    first = rank.job.rank if rank.job.gpu is None else rank.job.gpu
    wanted = range(first, first + (rank.job.world_size if alone else 1))
    return tuple(dict.fromkeys(shown[number % len(shown)] for number in wanted)) if shown else ()


def _plus(total: float | None, part: float | None, sharers: int = 1) -> float | None:
    """Return the sum, or None where something could not be read."""
    return None if total is None or part is None else total + part / sharers
