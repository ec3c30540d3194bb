"""From records to scaling curves: what may stand in one, the laws that describe it, and what they foretell.

A curve holds one strategy on one workload and kind of device, scaled one way, every rank owning the same share of the
machine. Its speed-ups are over serial on one rank's share; where one of them is above linear, and serial at the
per-rank batch was timed throughout, over that: then the ranks speak, not the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import MissingRequirementError, UsageError
from harness.measure import fits, laws, limits
from harness.measure.fits import Fit
from harness.measure.laws import LawName
from harness.measure.statistics import efficiency
from harness.record import Record
from harness.timings import BaselineName, Interval, Scaling, Timing


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One size of a curve; ``ratios`` are the speed-ups round by round.

    ``fraction`` is the serial fraction that this speed-up alone amounts to: Karp & Flatt's in strong scaling, in weak
    scaling that of Gustafson's law.
    """

    num_ranks: int
    samples_per_s: float
    speedup: Interval
    efficiency: Interval
    fraction: Interval
    ratios: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A size that was timed and is no point of the curve, and why."""

    num_ranks: int
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """The largest size as foretold from the smaller ones.

    ``predicted`` is where a measurement should lie, its own noise included; ``error`` is predicted over measured - 1.
    """

    num_ranks: int
    law: LawName
    sizes: tuple[int, ...]
    predicted: Interval
    measured: Interval
    error: float
    inside: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A strategy's speed-ups over world sizes, and what follows from them.

    ``fits`` holds the laws that could be fitted, the one to foretell with last; without any ``no_law`` says why.
    ``growth`` is by how much the Karp-Flatt fraction grows with a rank, None with fewer than two sizes.
    """

    strategy: str
    workload: str
    digest: str
    device: str
    scaling: Scaling
    share: str
    baseline: BaselineName
    points: tuple[Point, ...]
    left_out: tuple[LeftOut, ...] = ()
    above_linear: tuple[str, ...] = ()
    fits: tuple[Fit, ...] = ()
    no_law: str = ""
    growth: Interval | None = None
    held_out: HeldOut | None = None
    cause: str | None = None


def curves(records: Sequence[Record]) -> tuple[Curve, ...]:
    """Return the curves that timed cases make, a case being told once; sizes that fit no curve are listed beside it."""
    timed: dict[tuple[str, ...], dict[str, list[tuple[Record, Timing]]]] = {}
    left_out: dict[tuple[str, ...], list[LeftOut]] = {}
    for record in sorted(records, key=lambda record: record.world_size):
        timing = record.timing
        if timing is None or record.fault is not None or record.world_size < 2:
            continue
        key = (record.strategy, record.workload, record.workload_digest, record.device, timing.scaling)
        why = _unfit(record, timing)
        if why is not None:
            left_out.setdefault(key, []).append(LeftOut(num_ranks=record.world_size, why=why))
        else:
            timed.setdefault(key, {}).setdefault(_share(timing), []).append((record, timing))
    return tuple(
        _curve(share, cases, left_out.get(key, ())) for key, shares in timed.items() for share, cases in shares.items()
    )


def _unfit(record: Record, timing: Timing) -> str | None:
    """Return why a timing is no point of a curve."""
    if record.verdict != "equivalent":
        return f"the case is {record.verdict}"
    if timing.struck is not None:
        return timing.struck
    if timing.oversubscribed:
        return "ranks had to share cores: the cost of sharing, not scaling"
    figure = timing.speedup
    if figure is None or not 0 < figure.low <= figure.median <= figure.high < math.inf:
        return "no speed-up was measured"
    return None


def _share(timing: Timing) -> str:
    """Return what a rank owns, in words; curves are told apart by it."""
    if timing.share is not None:
        cores, threads = timing.share.num_cores, timing.share.num_threads
        same = f"{cores} core{'s' * (cores != 1)} a rank"
        same += f", {threads} thread{'s' * (threads != 1)}" if threads != cores else ""
        return same if timing.share.device == "cpu" else f"{timing.share.device} a rank"
    serial = timing.baseline("one share")
    threads = 0 if serial is None else serial.num_threads
    return f"{threads} thread{'s' * (threads != 1)} a rank" if threads else ""


def _curve(share: str, cases: Sequence[tuple[Record, Timing]], left_out: Sequence[LeftOut]) -> Curve:
    memory = "serial_peak_memory_bytes"
    above = [
        limits.above_linear(timing, record.world_size, serial_memory_bytes=record.resources.get(memory, 0))
        for record, timing in cases
    ]
    timings = {record.world_size: timing for record, timing in cases}
    small = any(above) and all(_ratios(timing, "per-rank batch") for timing in timings.values())
    baseline: BaselineName = "per-rank batch" if small else "one share"
    points = tuple(_point(size, timing, baseline) for size, timing in timings.items())
    first, scaling = cases[0][0], cases[0][1].scaling
    fitted, no_law = _fits(scaling, points)
    samples = _samples(points)
    return Curve(
        strategy=first.strategy,
        workload=first.workload,
        digest=first.workload_digest,
        device=first.device,
        scaling=scaling,
        share=share,
        baseline=baseline,
        points=points,
        left_out=tuple(left_out),
        above_linear=tuple(told for told in above if told is not None),
        fits=fitted,
        no_law=no_law,
        growth=fits.growth(samples) if fitted and scaling == "strong" else None,
        held_out=_held_out(scaling, points) if fitted else None,
        cause=limits.cause(timings),
    )


def _point(num_ranks: int, timing: Timing, baseline: BaselineName) -> Point:
    speedup = timing.speedup if baseline == "one share" else limits.over(timing, baseline)
    assert speedup is not None
    fraction = laws.karp_flatt if timing.scaling == "strong" else laws.scaled_fraction
    ends = [fraction(value, num_ranks) for value in (speedup.median, speedup.high, speedup.low)]
    return Point(
        num_ranks=num_ranks,
        samples_per_s=timing.samples_per_s,
        speedup=speedup,
        efficiency=efficiency(speedup, num_ranks),
        fraction=Interval(median=ends[0], low=ends[1], high=ends[2]),
        ratios=_ratios(timing, baseline),
    )


def _ratios(timing: Timing, name: BaselineName) -> tuple[float, ...]:
    """Return the speed-ups over a baseline round by round, by seconds a sample; empty where rounds are no pairs."""
    baseline = timing.baseline(name)
    if baseline is None or len(baseline.epoch_s) != len(timing.epoch_wall_s):
        return ()
    serial, parallel = np.array(baseline.epoch_s), np.array(timing.epoch_wall_s)
    median = baseline.speedup.median
    if not (np.isfinite([*serial, *parallel, median]).all() and min(*serial, *parallel, median) > 0):
        return ()
    # An epoch of the serial run may have other samples than one of all ranks; their ratio is the same in every round.
    ratios = serial / parallel
    return tuple(map(float, ratios * median / np.median(ratios)))


def _samples(points: Sequence[Point]) -> Mapping[int, tuple[float, ...]]:
    return {point.num_ranks: point.ratios for point in points}


def _fits(scaling: Scaling, points: Sequence[Point]) -> tuple[tuple[Fit, ...], str]:
    """Return the laws of this kind of scaling, or why none applies."""
    above = [point.num_ranks for point in points if point.speedup.low > point.num_ranks]
    if above:
        return (), f"above linear on {' and '.join(map(str, above))} ranks, which no law of losses describes"
    known = [law for law in laws.LAWS.values() if law.scaling == scaling and law.least_sizes <= len(points)]
    below = [point.num_ranks for point in points if point.speedup.high < 1]
    if below:  # more than the whole run would have to be serial
        known = [law for law in known if law.name == "USL"]
    if not known:
        sizes = " and ".join(map(str, below))
        return (), f"on {sizes} ranks it is slower than serial training, which no share of serial work explains"
    try:
        return tuple(fits.fit(law.name, _samples(points)) for law in known), ""
    except (UsageError, MissingRequirementError) as error:
        return (), str(error)


def _held_out(scaling: Scaling, points: Sequence[Point]) -> HeldOut | None:
    """Return the largest size foretold from the others, None where those allow no law."""
    *others, last = points
    fitted = _fits(scaling, others)[0] if others else ()
    if not fitted:
        return None
    foretold = fits.predict(fitted[-1], last.num_ranks)
    noise = fits.half_width(fits.centre(last.num_ranks, last.ratios))
    below, above = (math.log(end / foretold.median) for end in (foretold.low, foretold.high))
    low, high = (foretold.median * math.exp(side * math.hypot(end, noise)) for side, end in ((-1, below), (1, above)))
    return HeldOut(
        num_ranks=last.num_ranks,
        law=fitted[-1].law,
        sizes=tuple(point.num_ranks for point in others),
        predicted=Interval(median=foretold.median, low=low, high=high),
        measured=last.speedup,
        error=foretold.median / last.speedup.median - 1,
        inside=low <= last.speedup.median <= high,
    )
