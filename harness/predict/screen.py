"""Predictions on one screen: what is assumed, a row a number of ranks, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.predict import volumes
from harness.predict.prediction import Prediction, Setup
from harness.report.console import table

LEFT_OUT = (
    "Nearly always optimistic: reading data, ranks that straggle, contention between sending and computing, and other "
    "jobs are left out."
)
_BESIDE = {"forward": "beside forward", "backward": "beside backward", "alone": "alone"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What is trained: its sizes, the seconds of a sample on one rank, and in words where those come from.

    ``computer`` names the run whose machine computed, empty where the GPU's data tell; ``num_layers`` is None where the
    model's layers are not known.
    """

    name: str
    unit: str
    sizes: volumes.Sizes
    sample_s: float
    origin: str
    computer: str
    batch: float
    num_layers: int | None


def screen(
    head: str, training: Training, setup: Setup, found: Sequence[Prediction], notes: Sequence[str] = ()
) -> list[str]:
    """Return the lines of a prediction; ``head`` says what is trained where, ``notes`` what its rows leave out."""
    strong = setup.splits_model or setup.scaling == "strong"
    fixed = f"{training.batch:g} {training.unit} {'in all' if strong else 'a rank'}"
    rows = [["ranks", "step", f"{training.unit.split()[0]}/s", "speed-up", "range", "efficiency", "limited by"]]
    rows += [_row(one, training) for one in found]
    return [
        f"{head}; {'strong' if strong else 'weak'} scaling, {fixed}",
        f"computing on one rank: {training.origin}",
        f"sent in a step: {_sent(setup)}",
        "",
        *table(rows),
        "",
        *notes,
        "Range: what links and overlap may make of it, and nine of ten published curves (docs/performance.md).",
        LEFT_OUT,
    ]


def _row(one: Prediction, training: Training) -> list[str]:
    per_s = one.speedup.likely / training.sample_s
    return [
        f"{one.num_ranks:,}",
        _time(one.step_s.likely),
        f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}",
        f"{one.speedup.likely:.4g}",
        f"{one.speedup.low:.4g} to {one.speedup.high:.4g}",
        f"{one.efficiency.likely:.0%}",
        one.limit,
    ]


def _sent(setup: Setup) -> str:
    if setup.scheme == "pipeline":
        cut = setup.sizes.cut_bytes
        return "activations from stage to stage" + ("" if cut is None else f", {_bytes(cut)} a sample and cut")
    sent = volumes.transfers(setup.scheme, setup.sizes, setup.batch)
    return "; ".join(
        f"{one.kind} of {_bytes(one.num_bytes)} {_BESIDE[one.beside if setup.overlap else 'alone']}" for one in sent
    )


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"
