"""What the oracle is known to catch, measured before: how often it cries wolf, and how often it sees a bug."""

from __future__ import annotations

from pathlib import Path

import msgspec

from harness.report import words
from harness.report.svg import Scale, path, picture, tag, text
from harness.spec import Value

# Written by suites/performance/oracle_figures.py.
FILE = Path(__file__).with_name("oracle.json")
NOTE = (
    "Measured once with this version's oracle, on CPU. Each chart shows the share of clean runs and of runs with an "
    "injected bug whose largest deviation, in units of what rounding explains, exceeds a threshold; the dashed line is "
    "the threshold in use. In low precision an alarm counts only if float64 confirms it."
)
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 460.0, 222.0, 52.0, 448.0, 14.0, 176.0


class Curve(Value, frozen=True, kw_only=True):
    """The shares of clean and of wrong runs beyond each threshold, in one precision; ``factor`` is K, in use."""

    precision: str
    factor: float
    num_clean: int
    num_bugs: int
    area: float
    thresholds: tuple[float, ...]
    clean: tuple[float, ...]
    bugs: tuple[float, ...]


class Detection(Value, frozen=True, kw_only=True):
    """How many pairs of injected bug and strategy were caught, and how often the cause named was the right one.

    ``num_judged`` are those of which a cause can be told (no rank died); ``by_strategy`` holds (caught, pairs).
    """

    num_pairs: int
    num_caught: int
    num_faults: int
    num_strategies: int
    num_judged: int
    num_causes: int
    num_misled: int
    by_strategy: dict[str, tuple[int, int]]


class Known(Value, frozen=True, kw_only=True):
    """All of it; ``held_out`` is on other trainings than those on which the rules of diagnosis were written."""

    num_clean: int
    num_alarms: int
    curves: tuple[Curve, ...]
    detection: Detection | None = None
    held_out: Detection | None = None


def read() -> Known | None:
    """Return what is known, or None in an installation without it."""
    return msgspec.json.decode(FILE.read_bytes(), type=Known) if FILE.exists() else None


def sentences(known: Known) -> list[str]:
    """Return what is known in words."""
    told = [f"Of {words.count(known.num_clean, 'clean case')} {known.num_alarms:,} were called different."]
    for found, where in ((known.detection, ""), (known.held_out, "On other trainings than those it was made with: ")):
        if found is not None:
            told.append(
                f"{where}{found.num_caught:,} of {words.count(found.num_pairs, 'pair')} of an injected bug and a "
                f"strategy were caught ({words.count(found.num_faults, 'bug')}, "
                f"{words.count(found.num_strategies, 'strategy', 'strategies')}); the cause was named rightly in "
                f"{found.num_causes:,} of {found.num_judged:,}, and wrongly for certain in {found.num_misled:,}."
            )
    return told


def chart(curve: Curve) -> str:
    """Return the shares beyond the threshold, over the threshold on a logarithmic scale."""
    across = Scale(low=curve.thresholds[0], high=curve.thresholds[-1], start=_LEFT, end=_RIGHT, log=True)
    up = Scale(low=0.0, high=1.0, start=_BOTTOM, end=_TOP)
    parts = []
    for share in (0.0, 0.5, 1.0):
        parts.append(tag("line", x1=_LEFT, x2=_RIGHT, y1=up(share), y2=up(share), class_="grid"))
        parts.append(text(words.percent(share), x=_LEFT - 6, y=up(share) + 4, text_anchor="end", class_="tick"))
    powers = range(0, 17, 4)
    parts += [text(f"1e{p}", x=across(10.0**p), y=_BOTTOM + 16, text_anchor="middle", class_="tick") for p in powers]
    at = across(curve.factor)
    parts.append(tag("line", x1=at, x2=at, y1=_TOP, y2=_BOTTOM, class_="line limit"))
    for values, kind in ((curve.clean, "serial"), (curve.bugs, "parallel")):
        points = [(across(limit), up(share)) for limit, share in zip(curve.thresholds, values, strict=True)]
        parts.append(path(points, class_=f"line {kind}"))
    x = _LEFT
    for label, kind in (("clean", "serial"), ("with a bug", "parallel"), (f"K = {curve.factor:g}", "limit")):
        parts.append(tag("line", x1=x, x2=x + 18, y1=_HEIGHT - 9, y2=_HEIGHT - 9, class_=f"line {kind}"))
        parts.append(text(label, x=x + 24, y=_HEIGHT - 5, class_="label"))
        x += 44 + 7.0 * len(label)
    described = f"{curve.precision}: shares of clean and wrong runs beyond a threshold"
    return picture(_WIDTH, _HEIGHT, described, parts)


def caption(curve: Curve) -> str:
    """Return what a chart is made of."""
    return f"{curve.num_clean:,} clean, {curve.num_bugs:,} wrong; area under the ROC curve {curve.area:.4f}."
