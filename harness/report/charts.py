"""The charts of the report, each a function from figures to inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.record import RungSummary
from harness.report import words
from harness.report.svg import Scale, decades, finite, path, picture, strip, tag, text, ticks
from harness.timings import Interval, Timing

_WIDTH, _HEIGHT = 460.0, 222.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 448.0, 14.0, 176.0
_LINE = 24.0


def bar(value: float, largest: float, *, kind: str) -> str:
    """Return a bar of ``value`` on a scale from 0 to ``largest``; ``kind`` is its style."""
    scale = Scale(low=0.0, high=largest or 1.0)
    width = scale.percent(value) if math.isfinite(value) else "0%"
    return strip(_LINE, words.seconds(value), [tag("rect", x="0", y=8, width=width, height=8, rx=1.5, class_=kind)])


def speedup_scale(timings: Sequence[Timing], world_size: int) -> Scale:
    """Return one scale for every speed-up of a table: from 0 to a bit over the largest one, or the number of ranks.

    Neither a wide interval nor a baseline that is slow beyond all others must squeeze them, so what reaches beyond is
    cut and marked by an arrow.
    """
    own = finite([timing.speedup.median for timing in timings if timing.speedup is not None])
    others = finite([baseline.speedup.median for timing in timings for baseline in timing.baselines])
    most = max([*own, float(world_size), 1.0])
    return Scale(low=0.0, high=max(most, min(max(others, default=0.0), 2 * most)) * 1.12, start=1.0, end=98.0)


def whisker(value: Interval, scale: Scale, *, world_size: int, band: Interval | None, kind: str) -> str:
    """Return a speed-up with its interval, the A/A band, and lines at 1 and at the number of ranks."""
    parts = []
    if band is not None and math.isfinite(band.low) and math.isfinite(band.high):
        left, width = scale(band.low), max(0.4, scale(band.high) - scale(band.low))
        parts.append(tag("rect", x=f"{left:.2f}%", y=-1, width=f"{width:.2f}%", height=_LINE + 2, class_="band"))
    parts += [_upright(scale, 1.0, "one"), _upright(scale, float(world_size), "ideal")]
    if math.isfinite(value.low) and math.isfinite(value.high):
        ends = [scale.percent(value.low), scale.percent(value.high)]
        parts.append(tag("line", x1=ends[0], x2=ends[1], y1=12, y2=12, class_=f"whisker {kind}"))
        if value.high > scale.high:
            arrow = tag("path", d="M-1 7.5 5 12l-6 4.5z", class_=f"arrow {kind}")
            parts.append(tag("svg", arrow, x=ends[1], y=0, overflow="visible"))
    if math.isfinite(value.median):
        parts.append(tag("circle", cx=scale.percent(value.median), cy=12, r=3.5, class_=f"dot {kind}"))
    return strip(_LINE, words.speedup(value), parts)


def speedup_axis(scale: Scale, world_size: int) -> str:
    """Return the axis above a column of speed-ups."""
    marks = [mark for mark in ticks(0.0, scale.high, 5) if mark == int(mark)] or [0.0, 1.0]
    parts = []
    for mark in marks:
        where = scale(mark)
        anchor = "start" if where < 5 else "end" if where > 95 else "middle"
        parts.append(text(f"{mark:g}x", x=f"{where:.2f}%", y=13, text_anchor=anchor, class_="tick"))
    return strip(18, f"speed-up from 0 to {scale.high:.1f}, ideal {world_size}", parts)


def _upright(scale: Scale, value: float, kind: str) -> str:
    return tag("line", x1=scale.percent(value), x2=scale.percent(value), y1=-1, y2=_LINE + 1, class_=kind)


def closest_call(rung: RungSummary, allowed: float, highest: float) -> str:
    """Return one rung's closest call as a bar on a logarithmic scale, with a mark at what is allowed."""
    scale = Scale(low=0.01, high=max(1e3, allowed * 10, highest * 3), log=True)
    kind = "over" if not rung.ratio <= allowed else "within"
    width = "100%" if math.isnan(rung.ratio) else scale.percent(rung.ratio)
    parts = [
        tag("rect", x="0", y=8, width=width, height=8, rx=1.5, class_=kind),
        tag("line", x1=scale.percent(allowed), x2=scale.percent(allowed), y1=3, y2=21, class_="threshold"),
    ]
    return strip(_LINE, f"{rung.rung}: {words.number(rung.ratio)} of {words.number(allowed)} allowed", parts)


def curve(points: Sequence[tuple[float, float, float]]) -> str:
    """Return the deviation of the parameters, its rounding floor and its threshold over the steps, logarithmic."""
    values = [value for value in finite([v for point in points for v in point]) if value > 1e-150] or [1.0]
    low, high = 10.0 ** math.floor(math.log10(min(values)) - 0.2), 10.0 ** math.ceil(math.log10(max(values)) + 0.2)
    across, up = _across(len(points)), Scale(low=low, high=high, start=_BOTTOM, end=_TOP, log=True)
    parts = _frame([(up(mark), f"1e{round(math.log10(mark)):d}") for mark in decades(low, high)], len(points))
    names = (("deviation", "parallel"), ("floor", "floor"), ("threshold", "limit"))
    for column in (1, 2, 0):
        places = [(across(step), _height(up, point[column])) for step, point in enumerate(points)]
        parts.append(path(places, class_=f"line {names[column][1]}"))
    parts += [
        tag("circle", cx=across(step), cy=_height(up, point[0], lost=_TOP), r=3, class_=f"dot {_state(point[0])}")
        for step, point in enumerate(points)
    ]
    return picture(_WIDTH, _HEIGHT, "Deviation of the parameters over the steps", [*parts, _legend(names)])


def losses(pairs: Sequence[tuple[float, float]]) -> str:
    """Return the loss of the reference and of the parallel run over the steps, one on the other."""
    values = finite([value for pair in pairs for value in pair]) or [0.0, 1.0]
    low, high = min(values), max(values)
    margin = (high - low) * 0.08 or max(abs(high), 1.0) * 0.08
    across = _across(len(pairs))
    up = Scale(low=low - margin, high=high + margin, start=_BOTTOM, end=_TOP)
    parts = _frame([(up(mark), f"{mark:g}") for mark in ticks(low - margin, high + margin)], len(pairs))
    for column, kind in enumerate(("serial", "parallel")):
        places = [(across(step), _height(up, pair[column])) for step, pair in enumerate(pairs)]
        parts.append(path(places, class_=f"line {kind}"))
    parts += [
        tag("circle", cx=across(step), cy=_height(up, pair[1], lost=_TOP), r=3, class_=f"dot {_state(pair[1])}")
        for step, pair in enumerate(pairs)
    ]
    legend = _legend((("serial", "serial"), ("parallel", "parallel")))
    return picture(_WIDTH, _HEIGHT, "Loss over the steps, serial and parallel", [*parts, legend])


def epochs(rows: Sequence[tuple[str, Sequence[float], str]]) -> str:
    """Return every measured epoch as a dot; a row is (label, seconds, style)."""
    values = finite([value for _, row, _ in rows for value in row]) or [0.0, 1.0]
    low, high = min(values), max(values)
    margin = (high - low) * 0.06 or max(abs(high) * 0.06, 1e-9)
    across = Scale(low=max(0.0, low - margin), high=high + margin, start=150.0, end=_RIGHT)
    bottom = _TOP + 22.0 * len(rows)
    parts = []
    for mark in ticks(across.low, across.high):
        x = across(mark)
        parts.append(tag("line", x1=x, x2=x, y1=_TOP, y2=bottom, class_="grid"))
        parts.append(text(words.seconds(mark), x=x, y=bottom + 16, text_anchor="middle", class_="tick"))
    for index, (label, row, kind) in enumerate(rows):
        y = _TOP + 22.0 * index + 11
        parts.append(text(label, x=142.0, y=y + 4, text_anchor="end", class_="label"))
        parts += [tag("circle", cx=across(value), cy=y, r=3.5, class_=f"sample {kind}") for value in finite(row)]
    return picture(_WIDTH, bottom + 26, "Every measured epoch", parts)


def _across(num_points: int) -> Scale:
    return Scale(low=0.0, high=float(max(1, num_points - 1)), start=_LEFT + 8, end=_RIGHT - 8)


def _height(up: Scale, value: float, lost: float = math.nan) -> float:
    """Return where ``value`` lies; what is not a number breaks a line and is marked at ``lost``."""
    return lost if math.isnan(value) else up(value)


def _state(value: float) -> str:
    return "parallel" if math.isfinite(value) else "broken"


def _frame(marks: Sequence[tuple[float, str]], num_steps: int) -> list[str]:
    across, parts = _across(num_steps), []
    for y, label in marks:
        parts.append(tag("line", x1=_LEFT, x2=_RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(text(label, x=_LEFT - 6, y=y + 4, text_anchor="end", class_="tick"))
    stride = max(1, math.ceil(num_steps / 12))
    return parts + [
        text(str(step), x=across(step), y=_BOTTOM + 16, text_anchor="middle", class_="tick")
        for step in range(0, num_steps, stride)
    ]


def _legend(names: Sequence[tuple[str, str]]) -> str:
    """Return the key below the axis; the word "step" names the axis at its left."""
    parts, x, y = [text("step", x=_LEFT - 6, y=_BOTTOM + 16, text_anchor="end", class_="tick")], _LEFT + 8, _HEIGHT - 5
    for label, kind in names:
        parts.append(tag("line", x1=x, x2=x + 18, y1=y - 4, y2=y - 4, class_=f"line {kind}"))
        parts.append(text(label, x=x + 24, y=y, class_="label"))
        x += 40 + 7.0 * len(label)
    return tag("g", *parts)
