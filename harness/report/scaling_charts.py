"""The picture of a scaling curve: speed-ups over ranks, the ideal, the law, and where it leads."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.measure import fits
from harness.measure.curves import Curve
from harness.report.svg import Scale, path, picture, tag, text, ticks
from harness.timings import Interval

_WIDTH, _HEIGHT = 520.0, 330.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 508.0, 12.0, 272.0
# Up to so many ranks axes are linear, which shows losses as large as they are; beyond, sizes would crowd at the left.
_LINEAR = 16
_PIECES = 64
_ASIDE = 7.0  # a held-out point stands beside the measured one


def chart(curve: Curve, foretold: Sequence[int]) -> str:
    """Return measured speed-ups with intervals, the ideal line, and the law with its band, dashed where it foretells.

    ``foretold`` are the sizes beyond the measured ones to lead the law to; on linear axes to the first of them only.
    """
    last = curve.points[-1].num_ranks
    linear = last * 2 <= _LINEAR
    largest = max([last, *(foretold[:1] if linear else foretold)])
    across = Scale(low=1.0, high=float(largest), start=_LEFT + 6, end=_RIGHT - 10, log=not linear)
    lowest = 0.0 if linear else 2.0 ** math.floor(math.log2(min(1.0, *(point.speedup.low for point in curve.points))))
    highest = max(float(largest), *(point.speedup.high for point in curve.points))
    up = Scale(low=lowest, high=highest, start=_BOTTOM, end=_TOP, log=not linear)
    parts = _axes(across, up, largest, linear=linear)
    parts.append(path([(across(p), up(p)) for p in (1.0, float(largest))], class_="line ideally"))
    if curve.fits:
        parts += _law(curve, across, up, largest)
    parts += [_whisker(across(p.num_ranks), up, p.speedup, "main") for p in curve.points]
    if curve.held_out is not None:
        x = across(curve.held_out.num_ranks) + _ASIDE
        parts.append(_whisker(x, up, curve.held_out.predicted, "other"))
    return picture(_WIDTH, _HEIGHT, f"Speed-up of {curve.strategy} over ranks", [*parts, _key(curve)])


def _law(curve: Curve, across: Scale, up: Scale, largest: int) -> list[str]:
    last = curve.points[-1].num_ranks
    places = [float(p) for p in np.geomspace(1, largest, _PIECES)] + [float(last)]
    found = [(p, fits.predict(curve.fits[-1], p)) for p in sorted(places)]
    edge = [(across(p), up(at.high)) for p, at in found] + [(across(p), up(at.low)) for p, at in reversed(found)]
    line = [(p, (across(p), up(at.median))) for p, at in found]
    return [
        tag("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in edge), class_="within-law"),
        path([place for p, place in line if p <= last], class_="line law"),
        path([place for p, place in line if p >= last], class_="line law foretold"),
    ]


def _whisker(x: float, up: Scale, value: Interval, kind: str) -> str:
    return tag(
        "g",
        tag("line", x1=x, x2=x, y1=up(value.low), y2=up(value.high), class_=f"{kind} whisker"),
        tag("circle", cx=x, cy=up(value.median), r=4, class_=f"dot {kind}"),
    )


def _axes(across: Scale, up: Scale, largest: int, *, linear: bool) -> list[str]:
    powers = [2.0**power for power in range(math.floor(math.log2(up.low or 1)), math.ceil(math.log2(up.high)) + 1)]
    parts = []
    for mark in ticks(up.low, up.high, 5) if linear else [power for power in powers if power <= up.high]:
        parts.append(tag("line", x1=_LEFT, x2=_RIGHT, y1=up(mark), y2=up(mark), class_="grid"))
        parts.append(text(f"{mark:g}x", x=_LEFT - 8, y=up(mark) + 4, text_anchor="end", class_="tick"))
    sizes = [size for size in range(1, largest + 1) if linear or math.log2(size).is_integer()]
    parts += [
        text(str(size), x=across(size), y=_BOTTOM + 18, text_anchor="middle", class_="tick")
        for size in (sizes if len(sizes) < 12 else [size for size in sizes if size == 1 or size % 2 == 0])
    ]
    return [*parts, text("ranks", x=_RIGHT, y=_BOTTOM + 34, text_anchor="end", class_="label")]


def _key(curve: Curve) -> str:
    """Return the key below the axis."""
    names = [("measured", "dot main"), ("ideal", "line ideally")]
    if curve.fits:
        names += [(f"{curve.fits[-1].law}, 95 %", "line law"), ("foretold", "line law foretold")]
    if curve.held_out is not None:
        names.append(("held out", "dot other"))
    parts, x, y = [], _LEFT, _HEIGHT - 6
    for label, kind in names:
        round_mark = kind.startswith("dot")
        if round_mark:
            parts.append(tag("circle", cx=x + 5, cy=y - 4, r=4, class_=kind))
        else:
            parts.append(tag("line", x1=x, x2=x + 20, y1=y - 4, y2=y - 4, class_=kind))
        start = x + (14 if round_mark else 26)
        parts.append(text(label, x=start, y=y, class_="label"))
        x = start + 20 + 6.2 * len(label)
    return tag("g", *parts)
