"""The figures of one case as data: what the page's script draws, with the sentences beside it.

Numbers are rounded to what a picture shows; what is not finite becomes null, and a chart marks it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from harness.record import Heat, Record, Statistics, Verdict
from harness.report import words
from harness.report.sections import timing_views
from harness.spec import Value
from harness.timings import Part, Timing

Kind = Literal["deviation", "loss", "heat", "losses", "parts", "epochs", "ratios", "skew", "seeds"]


class Figure(Value, frozen=True, kw_only=True):
    """A chart with its caption; ``data`` is what the function of that ``kind`` in the page's script reads."""

    kind: Kind
    title: str
    caption: str
    data: dict[str, Any]


def figures(record: Record, *, brief: bool = False) -> list[Figure]:
    """Return all figures of a case, those of its verdict first; ``brief`` leaves out those of single tensors."""
    found = _of_verdict(record.evidence, brief=brief) if record.evidence else []
    return found + (_of_timing(record, record.timing) if record.timing else [])


def rounded(value: float | None, digits: int = 4) -> float | None:
    """Return ``value`` with so many significant digits."""
    return None if value is None else float(f"{value:.{digits}g}")


def row(values: Iterable[float | None], digits: int = 4) -> list[float | None]:
    """Return numbers as a page holds them."""
    return [rounded(value, digits) for value in values]


def _of_verdict(evidence: Verdict, *, brief: bool) -> list[Figure]:
    found = []
    if evidence.curve:
        found.append(
            Figure(
                kind="deviation",
                title="Divergence",
                caption="How far the parameters are from the reference at the closest call of each step (L2 norms), "
                "with the floor, which is what rounding alone does, and the threshold.",
                data={"points": [row(point, 3) for point in evidence.curve]},
            )
        )
    if evidence.losses:
        found.append(
            Figure(
                kind="loss",
                title="Loss",
                caption="Training loss at each step of the check, parallel over serial.",
                data={
                    "points": [row(pair) for pair in evidence.losses],
                    "reference": "serial" if evidence.reference == "plain" else evidence.reference,
                },
            )
        )
    found += _heat(evidence.heat, evidence.factor) if evidence.heat and not brief else []
    return found + [_seeds(one) for one in evidence.statistics]


def _heat(heat: Heat, allowed: float) -> list[Figure]:
    cut = heat.num_left_out
    left_out = f" {words.count(cut, 'tensor')} that came less close not shown." if cut else ""
    unit = f"in units of what rounding explains, of {words.number(allowed)} allowed."
    by_rung = [row(values, 2) for values in zip(*heat.rungs.values(), strict=True)]
    by_step = [row(values, 2) for values in heat.by_step]
    steps = [words.step(step) for step in heat.steps]
    return [
        Figure(
            kind="heat",
            title="Tensors",
            caption=f"The largest deviation of every tensor on each rung, over steps and ranks, {unit}{left_out}",
            data={"tensors": heat.tensors, "columns": list(heat.rungs), "values": by_rung, "allowed": allowed},
        ),
        Figure(
            kind="heat",
            title=f"Tensors over steps: {heat.by_step_rung}",
            caption=f"The largest deviation over ranks, {unit}",
            data={"tensors": heat.tensors, "columns": steps, "values": by_step, "allowed": allowed},
        ),
    ]


def _seeds(found: Statistics) -> Figure:
    """Return a quantity of trainings over paired seeds: the difference of each, and what they come to."""
    differences = [parallel - serial for serial, parallel in zip(found.serial, found.parallel, strict=True)]
    within = f"{words.number(found.mean)} [{words.number(found.low)}, {words.number(found.high)}]"
    return Figure(
        kind="seeds",
        title=f"{found.name[:1].upper()}{found.name[1:]}",
        caption=f"Parallel minus serial for every seed. Mean with its 90 % interval: {within}, to lie within "
        f"±{words.number(found.margin)}. {words.count(len(found.seeds), 'seed')}; {found.needed} show equality nine "
        "times in ten.",
        data={
            "seeds": found.seeds,
            "differences": row(differences),
            "interval": row((found.low, found.mean, found.high)),
            "margin": rounded(found.margin),
        },
    )


def _of_timing(record: Record, timing: Timing) -> list[Figure]:
    if not words.is_sound(timing):
        return [_epochs(timing)]
    found = []
    if timing.losses and words.struck(record) is None:
        found.append(
            Figure(
                kind="losses",
                title="From ideal to measured",
                caption=" ".join(f"{loss.name.capitalize()}: {loss.words}." for loss in timing.losses),
                data={
                    "ideal": record.world_size,
                    "factors": [[loss.name, rounded(loss.factor.median)] for loss in timing.losses],
                },
            )
        )
    if timing.breakdown and timing.breakdown.ranks:
        ranks = timing.breakdown.ranks
        shown = timing_views.slowest([_busy_s(parts) for parts in ranks])
        rows = [(f"rank {rank}", ranks[rank]) for rank in shown]
        rows += [("alone", timing.breakdown.alone)] if timing.breakdown.alone else []
        data = [[label, {part: rounded(value, 3) for part, value in parts.items()}] for label, parts in rows]
        caption = f"{timing_views.breakdown(timing.breakdown)}{timing_views.of_all(shown, len(ranks))}"
        found.append(Figure(kind="parts", title="Where the time goes", caption=caption, data={"rows": data}))
    found.append(_epochs(timing))
    found += [_ratios(record, timing)] if words.struck(record) is None and timing.speedup else []
    return found + ([_skew(timing)] if len(timing.epoch_s) > 1 and timing.epoch_wall_s else [])


def _busy_s(parts: dict[Part, float]) -> float:
    return sum(value for part, value in parts.items() if part != "idle")


def _epochs(timing: Timing) -> Figure:
    """Return the samples as they came: round by round, every run, and the warm-up before them."""
    runs: list[tuple[str, str, Sequence[float], Sequence[float]]] = [
        ("parallel", "parallel", timing.epoch_wall_s, timing.warmup_s),
        *((words.baseline(run), "serial", run.epoch_s, run.warmup_s) for run in timing.baselines),
    ]
    warm = ", ".join(map(words.seconds, timing.warmup_s)) or "none"
    return Figure(
        kind="epochs",
        title="Samples as they came",
        caption=f"Every measured epoch of every run, round by round. Warm-up of the parallel run, not counted: {warm}.",
        data={"runs": [[label, kind, row(values), row(before)] for label, kind, values, before in runs]},
    )


def _ratios(record: Record, timing: Timing) -> Figure:
    """Return the speed-up of every round over serial on one share, whose median is the figure."""
    share = timing.baseline("one share")
    assert timing.speedup is not None
    ratios = [a / b for a, b in zip(share.epoch_s, timing.epoch_wall_s, strict=False) if b] if share else []
    band = timing.aa
    return Figure(
        kind="ratios",
        title="Speed-up, round by round",
        caption=f"Serial on one rank's share over parallel, both in the same round: {words.speedup(timing.speedup)}."
        + (f" Shade: {words.resolution(timing)}." if band else ""),
        data={
            "ratios": row(ratios),
            "interval": row((timing.speedup.low, timing.speedup.median, timing.speedup.high)),
            "aa": row((band.low, band.high)) if band else None,
            "ideal": record.world_size,
        },
    )


def _skew(timing: Timing) -> Figure:
    """Return how much of an epoch's time each rank took itself."""
    shares = [
        row(own / whole for own, whole in zip(rank, timing.epoch_wall_s, strict=False) if whole)
        for rank in timing.epoch_s
    ]
    medians = [words.median([value for value in rank if value is not None]) for rank in shares]
    shown = timing_views.slowest(medians)
    middle = [value for value in medians if not math.isnan(value)]
    told = f" The medians of the ranks differ by {words.percent(max(middle) - min(middle), 1)}." if middle else ""
    more = timing_views.of_all(shown, len(shares))
    return Figure(
        kind="skew",
        title="Ranks",
        caption=f"Each rank's own time as a share of the epoch's, which ends with the slowest rank.{told}{more}",
        data={"ranks": [shares[rank] for rank in shown], "names": [f"rank {rank}" for rank in shown]},
    )
