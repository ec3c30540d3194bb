"""Small building blocks of the plots in docs: SVG elements as text, and scales."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass


def tag(name: str, *children: str, **attributes: object) -> str:
    """Return an SVG element; ``children`` are elements already, attribute values are escaped, ``_`` reads as ``-``."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{pairs}>{''.join(children)}</{name}>" if children else f"<{name}{pairs}/>"


def text(content: str, **attributes: object) -> str:
    """Return a text element with ``content`` escaped."""
    return tag("text", html.escape(content), **attributes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """Maps values of [low, high] onto [start, end]; values outside, infinite ones too, are held at the ends."""

    low: float
    high: float
    start: float = 0.0
    end: float = 100.0
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of ``value``; NaN lies at the start, and charts leave it out."""
        low, high, at = (self._measure(v) for v in (self.low, self.high, value))
        share = 0.0 if math.isnan(at) or high == low else (at - low) / (high - low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def _measure(self, value: float) -> float:
        if not self.log or math.isnan(value) or value == math.inf:
            return value
        return math.log10(value) if value > 0 else -math.inf


def path(points: Sequence[tuple[float, float]], **attributes: object) -> str:
    """Return a line through ``points``; a point that is not a number breaks it."""
    parts, pen_down = [], False
    for x, y in points:
        if math.isnan(y):
            pen_down = False
            continue
        parts.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
        pen_down = True
    return tag("path", d="".join(parts) or "M0 0", **attributes)


def _value(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
