"""How strategies scale, in words and prepared for the page: curves over world sizes and what limits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.measure import fits
from harness.measure.curves import Curve, HeldOut, Point, curves
from harness.measure.energy import samples_per_j
from harness.measure.fits import Fit
from harness.measure.statistics import efficiency
from harness.record import Record
from harness.report import words
from harness.report.sections.figures import rounded, row
from harness.report.summary import Summary
from harness.spec import Value
from harness.timings import Interval

NOTE = (
    "Speed-up over ranks, every rank owning the same share of the machine; strong scaling (the batch of all ranks is "
    "fixed) and weak scaling (the batch of a rank is) are never mixed. Laws are fitted to every round's speed-up; "
    "intervals and bands hold the truth in 95 % of cases if the law is right, also beyond the measured sizes."
)
_NOTHING = Interval(median=0.0, low=0.0, high=0.0)
# Sizes to foretell, as multiples of the largest measured.
AHEAD = (2, 4)


_PIECES = 48


class Size(Value, frozen=True, kw_only=True):
    """A size of a curve, measured or foretold; intervals as low, median and high, and in words."""

    ranks: int
    measured: bool
    speedup: list[float | None]
    efficiency: list[float | None]
    figures: tuple[str, ...]
    memory_bytes: float | None = None
    samples_per_j: float | None = None


class View(Value, frozen=True, kw_only=True):
    """A curve as the page draws it.

    ``law`` holds (ranks, low, median, high) along the fitted law, ``held_out`` (ranks, low, median, high) of the size
    that was foretold from the smaller ones.
    """

    title: str
    manner: str
    strong: bool
    told: tuple[str, ...]
    sizes: tuple[Size, ...]
    law_name: str = ""
    law: tuple[list[float | None], ...] = ()
    held_out: list[float | None] = []
    drawn: bool = True


def views(summary: Summary) -> list[View]:
    """Return the curves of a run; a strategy timed on no more than one rank has none.

    Of one size, a line in a table says all, and it is not ``drawn``.
    """
    cases = {
        (case.strategy, case.workload, case.workload_digest, case.device, case.world_size): case
        for case in summary.cases
    }
    return [_view(curve, cases) for curve in curves(summary.cases)]


def _view(curve: Curve, cases: Mapping[tuple[str, str, str, str, int], Record]) -> View:
    own = (curve.strategy, curve.workload, curve.digest, curve.device)
    sizes = [_measured(point, cases[*own, point.num_ranks]) for point in curve.points]
    law: tuple[list[float | None], ...] = ()
    if curve.fits:
        last = curve.points[-1].num_ranks
        sizes += [_foretold(curve.fits[-1], last * times) for times in AHEAD]
        places = sorted({*map(float, np.geomspace(1, last * AHEAD[-1], _PIECES)), float(last)})
        law = tuple([rounded(at), *_interval(fits.predict(curve.fits[-1], at))] for at in places)
    held = curve.held_out
    return View(
        title=f"{curve.strategy} on {curve.workload}",
        manner=manner(curve),
        strong=curve.scaling == "strong",
        told=(*sentences(curve), *_other_efficiency(curve, [cases[*own, point.num_ranks] for point in curve.points])),
        sizes=tuple(sizes),
        law_name=curve.fits[-1].law if curve.fits else "",
        law=law,
        held_out=[held.num_ranks, *_interval(held.predicted)] if held else [],
        drawn=len(curve.points) > 1 or bool(curve.left_out),
    )


def _other_efficiency(curve: Curve, cases: Sequence[Record]) -> list[str]:
    """Return that the efficiencies of the table of times are over another serial run, where they are."""
    found = {case.timing.efficiency_over for case in cases if case.timing is not None and case.timing.efficiency}
    if found <= {curve.baseline}:
        return []
    return [
        f"Efficiency is over {words.BASELINE[curve.baseline]} here; among the times it is over the faster serial run."
    ]


def _measured(point: Point, record: Record) -> Size:
    timing = record.timing
    assert timing is not None
    memory = [used.gpu_memory_bytes or used.peak_memory_bytes for used in timing.used]
    return Size(
        ranks=point.num_ranks,
        measured=True,
        speedup=_interval(point.speedup),
        efficiency=_interval(point.efficiency),
        figures=(
            words.number(point.samples_per_s),
            words.speedup(point.speedup),
            words.efficiency(point.efficiency),
            share(point.fraction),
        ),
        memory_bytes=max(memory, default=None),
        samples_per_j=rounded(samples_per_j(timing)),
    )


def _foretold(fit: Fit, num_ranks: int) -> Size:
    speedup = fits.predict(fit, num_ranks)
    told = efficiency(speedup, num_ranks)
    return Size(
        ranks=num_ranks,
        measured=False,
        speedup=_interval(speedup),
        efficiency=_interval(told),
        figures=("foretold", words.speedup(speedup), words.efficiency(told), ""),
    )


def _interval(value: Interval) -> list[float | None]:
    return row((value.low, value.median, value.high))


def manner(curve: Curve) -> str:
    """Return how a curve was taken: ``strong scaling, 1 core a rank``."""
    over = "" if curve.baseline == "one share" else f"over {words.BASELINE[curve.baseline]}"
    parts = (f"{curve.scaling} scaling", f"{curve.device.upper()} ranks", curve.share, over)
    return ", ".join(part for part in parts if part)


def lines(summary: Summary) -> list[str]:
    """Return for the terminal what limits each strategy that was timed on two sizes or more, a line a curve."""
    return [
        f"{curve.strategy} on {curve.workload}, {manner(curve)}: {limit(curve)}"
        for curve in curves(summary.cases)
        if len(curve.points) > 1
    ]


def sentences(curve: Curve) -> list[str]:
    """Return all that is to be said of a curve, the limit first."""
    told = [limit(curve), *(f"{why}." for why in curve.above_linear)]
    if curve.growth is not None and not speaking(curve).misses:
        told.append(_growth(curve.growth))
    told += [_held_out(curve)] if curve.fits else []
    return told + [f"Not in this curve: {size.num_ranks} ranks, {size.why}." for size in curve.left_out]


def limit(curve: Curve) -> str:
    """Return what limits a strategy, as a sentence: the law's figure, then the cause where one was measured."""
    fit = speaking(curve) if curve.fits else None
    found = _figures(fit) if fit is not None else f"No law: {curve.no_law}"
    if fit is not None and fit.misses:
        found += (
            f", but this law misses the sizes by more than noise explains (p = {words.number(fit.misfit, 2)}); the "
            "interval is widened by that"
        )
    return f"{found}; {curve.cause}." if curve.cause else f"{found}."


def speaking(curve: Curve) -> Fit:
    """Return the law to describe a curve by: the simpler one, unless it misses or more ranks cost beyond noise."""
    first, last = curve.fits[0], curve.fits[-1]
    return last if first.misses or last.parameters.get("coherence", _NOTHING).low > 0 else first


def _figures(fit: Fit) -> str:
    if fit.law == "USL":
        return _usl(fit)
    value = fit.parameters["serial fraction"]
    if value.low <= 0:
        return f"No serial fraction is resolved: at most {words.percent(value.high, 1)} ({fit.law})"
    return f"Serial fraction {share(value)} ({fit.law})"


def _usl(fit: Fit) -> str:
    contention, coherence, peak = fit.parameters["contention"], fit.parameters["coherence"], fits.peak(fit)
    assert peak is not None
    told = f"Contention {share(contention)}, coherence {share(coherence, 3)} (USL)"
    if coherence.low <= 0:
        return told
    if peak.median < 2:
        return f"{told}: more ranks only make it slower"
    return f"{told}: beyond {peak.median:.0f} ranks [{peak.low:.0f}, {peak.high:.0f}] more make it slower"


def share(value: Interval, digits: int = 1) -> str:
    """Return a share with its interval: ``11.0 % [9.1, 12.8]``."""
    low, high = (words.percent(end, digits).removesuffix(" %") for end in (value.low, value.high))
    return f"{words.percent(value.median, digits)} [{low}, {high}]"


def _growth(value: Interval) -> str:
    if value.low > 0:
        return (
            "The Karp-Flatt fraction grows with the ranks: what limits is overhead that grows, such as communication, "
            "not serial work alone."
        )
    if value.high < 0:
        return "The Karp-Flatt fraction falls with the ranks: the smallest sizes lose most, so no law fits well."
    return (
        "The Karp-Flatt fraction does not measurably grow with the ranks: what limits behaves like serial work, not "
        "like communication that grows."
    )


def _held_out(curve: Curve) -> str:
    found = curve.held_out
    if found is None and len(curve.points) > 1:
        return "Nothing was held out to try the law: the smaller sizes alone allow none."
    if found is None:
        return (
            "One size beyond 1: the law meets it by construction, nothing was held out to try it, and what it "
            "foretells supposes that no cost grows with the ranks."
        )
    sizes = words.listing([str(size) for size in found.sizes], 6)
    return (
        f"Held out, {found.num_ranks} ranks are foretold from {sizes} as {words.speedup(found.predicted)} "
        f"({found.law}); measured {words.factor(found.measured.median)}: {_error(found)}."
    )


def _error(found: HeldOut) -> str:
    side = "too high" if found.error > 0 else "too low"
    return f"{words.percent(abs(found.error), 1)} {side}, {'inside' if found.inside else 'outside'} the interval"
