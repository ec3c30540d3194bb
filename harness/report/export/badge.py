"""``badge.svg``: how many strategies equal serial training and the largest speed-up, for a README or a wiki."""

from __future__ import annotations

import html
from pathlib import Path

from harness.record import Conclusion
from harness.report import files, words
from harness.report.console import clean
from harness.report.export.results import complete, conclusion, equal_of_judged
from harness.report.headline import answer, gain
from harness.report.sections import fault_matrix
from harness.report.summary import Summary, resolved_speedup, summarise
from harness.store import Run

FILE = "badge.svg"
LABEL = "lockstep"
# The page's colours of the verdicts on white; white on them has a contrast of 5.8 : 1 or more.
COLOURS: dict[Conclusion, str] = {
    "equivalent": "#0b6b5d",
    "different": "#b03a0c",
    "inconclusive": "#7d5a07",
    "not-verified": "#5c6169",
}
_LABEL_COLOUR = "#33383f"
_FONT = "Verdana,Geneva,DejaVu Sans,sans-serif"
# Widths in Verdana at 11 px, in pixels: most letters and digits are 7, these are not.
_NARROW, _MIDDLE, _WIDE = "ijlI.,:;|!'` ", 'frtJ()[]{}-/\\"', "mwMWGOQD%@"
_PADDING = 6
_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{name}">
<title>{title}</title>
<path fill="{label_colour}" d="M{split} 0v20H3a3 3 0 0 1-3-3V3a3 3 0 0 1 3-3z"/>
<path fill="{colour}" d="M{split} 0h{rest}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H{split}z"/>
<path fill="none" stroke="#fff" stroke-opacity=".25" d="M3.5 .5h{inner}a3 3 0 0 1 3 3v13a3 3 0 0 1-3 3H3.5\
a3 3 0 0 1-3-3v-13a3 3 0 0 1 3-3z"/>
<g fill="#fff" font-family="{font}" font-size="11" text-rendering="geometricPrecision">
<text x="{padding}" y="14" textLength="{label_length}">{label}</text>
<text x="{start}" y="14" textLength="{length}">{message}</text>
</g>
</svg>
"""


def write(run: Run) -> Path:
    """Write ``badge.svg`` into the run's folder, and return its path; raise StoreError where that is refused."""
    return files.write(run.directory / FILE, svg(summarise(run)).encode())


def svg(summary: Summary) -> str:
    """Return the badge of a run; its title is the whole answer."""
    return drawn(message(summary), tone(summary), title=answer(summary))


def message(summary: Summary) -> str:
    """Return what the badge says: ``14 of 16 equal · 65 of 81 cases · 1.87x``; a speed-up only where it is a gain.

    An injected bug that went unseen comes first; on how many cases it rests is said where that is not all of them.
    """
    equal, judged = equal_of_judged(summary)
    told = [fault.partition(" (")[0] for fault in fault_matrix.unseen(summary.faults)]
    if not judged:
        return " · ".join([*told, "nothing verified"])
    told.append(f"{equal} of {judged} equal{'' if complete(summary) else ' so far'}")
    if summary.num_ran < summary.num_cases:
        told.append(f"{summary.num_ran:,} of {words.count(summary.num_cases, 'case')}")
    fastest = summary.fastest
    speedup = resolved_speedup(fastest) if fastest is not None and gain(fastest) else None
    return " · ".join([*told, words.factor(speedup.median)] if speedup else told)


def tone(summary: Summary) -> Conclusion:
    """Return in whose colour a run is shown: what is not complete is not equivalent yet."""
    found = conclusion(summary)
    return "inconclusive" if found == "equivalent" and not complete(summary) else found


def drawn(message: str, tone: Conclusion, *, title: str) -> str:
    """Return a badge that says ``message``."""
    label_length, length = _width(LABEL), _width(message)
    split, width = label_length + 2 * _PADDING, label_length + length + 4 * _PADDING
    return _SVG.format(
        width=width,
        inner=width - 7,
        split=split,
        rest=width - split - 3,
        start=split + _PADDING,
        padding=_PADDING,
        label_length=label_length,
        length=length,
        label=LABEL,
        message=html.escape(message),
        name=html.escape(f"{LABEL}: {message}"),
        title=html.escape(clean(title)),
        colour=COLOURS[tone],
        label_colour=_LABEL_COLOUR,
        font=_FONT,
    )


def _width(text: str) -> int:
    """Return about how many pixels ``text`` takes; ``textLength`` makes it so whatever font is there."""
    return round(sum(map(_advance, text)))


def _advance(char: str) -> float:
    return 3.9 if char in _NARROW else 4.9 if char in _MIDDLE else 9.3 if char in _WIDE else 6.9
