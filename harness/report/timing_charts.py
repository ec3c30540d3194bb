"""Charts of one timed case: where its ranks' time goes, and what its speed-up loses on the way from the ideal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.report import words
from harness.report.svg import Scale, finite, picture, tag, text, ticks
from harness.timings import Loss, Part

_WIDTH, _LEFT, _RIGHT, _TOP = 460.0, 118.0, 448.0, 12.0
_ROW = 26.0
# Parts below this share of the longest bar would only lengthen the key.
_LEAST = 0.002
# In the order of a step, and so that neighbours differ in colour.
PARTS: dict[Part, str] = {
    "data": "data",
    "forward": "forward",
    "backward": "backward",
    "step": "step as a whole",
    "communication": "waiting for ranks",
    "optimizer": "optimizer",
    "idle": "idle",
    "other": "other",
}


def parts(rows: Sequence[tuple[str, Mapping[Part, float]]]) -> str:
    """Return the seconds of each part as a bar a row, one part after the other; a row is (label, seconds by part)."""
    totals = finite([sum(row.values()) for _, row in rows]) or [1.0]
    least = _LEAST * max(totals)
    shown = [part for part in PARTS if any(row.get(part, 0.0) > least for _, row in rows)]
    across = Scale(low=0.0, high=max(totals) or 1.0, start=_LEFT, end=_RIGHT)
    bottom = _TOP + _ROW * len(rows)
    drawn = []
    for mark in ticks(0.0, across.high):
        drawn.append(tag("line", x1=across(mark), x2=across(mark), y1=_TOP, y2=bottom, class_="grid"))
        label = words.seconds(mark)
        drawn.append(text(label, x=across(mark), y=bottom + 15, text_anchor="middle", class_="tick"))
    for number, (label, row) in enumerate(rows):
        y, before = _TOP + _ROW * number + 4, 0.0
        drawn.append(text(label, x=_LEFT - 8, y=y + 13, text_anchor="end", class_="label"))
        for part in shown:
            start, end = across(before), across(before + row.get(part, 0.0))
            hint = tag("title", f"{PARTS[part]}: {words.seconds(row.get(part, 0.0))}")
            drawn.append(tag("rect", hint, x=start, y=y, width=max(0.0, end - start), height=18, class_=f"part {part}"))
            before += row.get(part, 0.0)
    drawn += _key(shown, bottom + 34)
    lines = _num_lines(shown)
    return picture(_WIDTH, bottom + 26 + 18 * lines, "Where the time of an epoch goes, a bar a rank", drawn)


def _key(shown: Sequence[Part], y: float) -> list[str]:
    drawn, x = [], 8.0
    for part in shown:
        wide = 28 + 7.2 * len(PARTS[part])
        if x + wide > _WIDTH:
            x, y = 8.0, y + 18
        drawn.append(tag("rect", x=x, y=y - 10, width=12, height=12, class_=f"part {part}"))
        drawn.append(text(PARTS[part], x=x + 17, y=y, class_="label"))
        x += wide
    return drawn


def _num_lines(shown: Sequence[Part]) -> int:
    lines, x = 1, 8.0
    for part in shown:
        wide = 28 + 7.2 * len(PARTS[part])
        if x + wide > _WIDTH:
            lines, x = lines + 1, 8.0
        x += wide
    return lines


def losses(world_size: int, found: Sequence[Loss]) -> str:
    """Return the way from the ideal to the measured speed-up, a bar for what is left after each factor."""
    steps: list[tuple[str, float]] = [("ideal", float(world_size))]
    for loss in found:
        steps.append((NAMES.get(loss.name, loss.name), steps[-1][1] * loss.factor.median))
    high = max(finite([value for _, value in steps]) or [1.0])
    across = Scale(low=0.0, high=high * 1.14, start=_LEFT, end=_RIGHT)
    drawn = []
    for number, (label, value) in enumerate(steps):
        y, before = _TOP + _ROW * number + 4, steps[max(0, number - 1)][1]
        kind = "parallel" if number == len(steps) - 1 else "serial"
        drawn.append(text(label, x=_LEFT - 8, y=y + 13, text_anchor="end", class_="label"))
        drawn.append(tag("rect", x=_LEFT, y=y, width=max(0.0, across(value) - _LEFT), height=18, class_=f"kept {kind}"))
        near, far = sorted((across(value), across(before)))
        change = "lost" if value < before else "gained"
        if number:
            drawn.append(tag("rect", x=near, y=y, width=far - near, height=18, class_=change))
        told = words.factor(value)
        drawn.append(text(told, x=far + 6, y=y + 13, class_="label"))
    return picture(_WIDTH, _TOP + _ROW * len(steps) + 6, "From the ideal to the measured speed-up", drawn)


# What is left after each factor.
NAMES = {"batch": "a rank's batch", "machine": "machine's limit", "ranks": "measured"}
