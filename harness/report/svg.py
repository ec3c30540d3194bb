"""Small building blocks of charts: SVG elements as text, scales and ticks. Colours come from the page's style sheet."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
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


def picture(width: float, height: float, description: str, children: Iterable[str], class_: str = "chart") -> str:
    """Return a whole picture that scales with its column and is described to those who cannot see it."""
    return tag(
        "svg",
        tag("title", html.escape(description)),
        *children,
        viewBox=f"0 0 {width} {height}",
        role="img",
        class_=class_,
    )


def strip(height: float, description: str, children: Iterable[str], class_: str = "strip") -> str:
    """Return a line of a table: as wide as its cell, ``height`` pixels high, x coordinates in per cent."""
    return tag(
        "svg",
        tag("title", html.escape(description)),
        *children,
        width="100%",
        height=height,
        role="img",
        class_=class_,
    )


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

    def percent(self, value: float) -> str:
        """Return the place as a per cent coordinate."""
        return f"{self(value):.2f}%"


def finite(values: Iterable[float]) -> list[float]:
    """Return the values that a scale can span; beyond 1e150 differences and powers of ten overflow."""
    return [value for value in values if abs(value) < 1e150]


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return round values within [low, high], ``about`` as many as asked."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * unit for unit in (1, 2, 5, 10) if power * unit >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def decades(low: float, high: float, about: int = 5) -> list[float]:
    """Return powers of ten within [low, high], evenly thinned to ``about`` as many as asked."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    stride = max(1, math.ceil((last - first + 1) / about))
    return [10.0**power for power in range(first, last + 1, stride)]


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
