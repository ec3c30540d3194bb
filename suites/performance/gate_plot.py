"""The picture of docs/performance.md: how often each comparison says "slower", over how much slower it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from oracle_plots import WIDTH, axes, key, percents, picture
from svg import Scale, path, tag

KINDS = "badc"


def draw(file: Path, power: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Write the picture: for each tool the rate of "slower" (0 to 1) by slowdown (0.05 is 5 %), in that order."""
    slowest = max(slowdown for line in power.values() for slowdown, _ in line)
    across = Scale(low=0.0, high=slowest, start=70, end=WIDTH - 20)
    up = Scale(low=0.0, high=1.0, start=260, end=20)
    below = [(mark / 100, f"{mark} %") for mark in (0, 1, 3, 5, 7, 10, 15, 20) if mark / 100 <= slowest]
    parts = axes(across, up, below, percents(), "slower by")
    for kind, line in zip(KINDS, power.values(), strict=True):
        points = [(across(slowdown), up(rate)) for slowdown, rate in line]
        parts.append(path(points, class_=f"line {kind}"))
        parts += [tag("circle", cx=x, cy=y, r=3, fill="none", class_=f"line {kind}") for x, y in points]
    names = [(kind, name.replace("pytest-benchmark", "p-b")) for kind, name in zip(KINDS, power, strict=True)]
    parts += key(names, 312, gap=160)
    file.write_text(picture(324, 'How often each says "slower", by slowdown; at 0 % it cries wolf', parts))
