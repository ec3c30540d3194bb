"""What the processors take: the kernel's running average power limit (RAPL) counters of whole packages.

They are root's alone on most machines, and absent in virtual ones; then there are no figures. Tried on a made-up tree
of files only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.timings import Timing

POWERCAP = Path("/sys/class/powercap")


def counters() -> dict[Path, int]:
    """Return the counter of each package in microjoules, by its folder; empty where one of them cannot be read."""
    found = {}
    try:
        # "intel-rapl:0:0" is a part of "intel-rapl:0", and "psys" the whole machine; AMD's have Intel's names.
        for zone in sorted(POWERCAP.glob("intel-rapl:*")):
            if zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package"):
                found[zone] = int((zone / "energy_uj").read_text())
    except (OSError, ValueError):
        return {}
    return found


def taken_j(before: Mapping[Path, int], after: Mapping[Path, int]) -> float | None:
    """Return the joules between two readings of the counters, or None where there are none.

    A counter starts again from 0 at its range, after some minutes at full power: once at most between two readings.
    """
    if not before or before.keys() != after.keys():
        return None
    spent = 0
    for zone, count in after.items():
        around = int((zone / "max_energy_range_uj").read_text()) if count < before[zone] else 0
        spent += count - before[zone] + around
    return spent / 1e6


def samples_per_j(timing: Timing) -> float | None:
    """Return how many samples the ranks of a timing trained for each joule, or None where energy was not read."""
    taken = [used.energy_j for used in timing.used]
    known = [one for one in taken if one is not None]
    if not known or len(known) < len(taken) or not sum(known):
        return None
    return timing.num_samples * len(timing.epoch_wall_s) / sum(known)
