"""How often the intervals of fitted scaling laws hold the truth: synthetic curves whose parameters are known.

Every trial draws parameters and speed-ups on 2 to 32 ranks, each the ratio of a serial and a parallel time with noise
of their own, fits the law and looks which intervals hold the truth, a prediction for 64 ranks included. Beside it
stands the percentile bootstrap over samples alike, and what noise that grows with the ranks, or outliers, do.

    python suites/performance/bench_fits.py [--trials 2000] [--samples 10] [--noise 0.03]
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from benching import tell

from harness.measure import fits, laws
from harness.measure.laws import LAWS, LawName

SIZES = (2, 4, 8, 16, 32)
BEYOND = 64
GOAL = 0.93
NUM_RESAMPLES = 399
Draw = np.random.Generator
Speedup = Callable[..., float]
FORMULAS: Mapping[LawName, Speedup] = {"Amdahl": laws.amdahl, "Gustafson": laws.gustafson, "USL": laws.usl}


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What is measured and what falsifies it: sizes, relative noise on few and on many ranks, share of slow epochs."""

    few: float
    many: float
    outliers: float = 0.0
    sizes: tuple[int, ...] = SIZES


def true_parameters(name: LawName, draw: Draw) -> tuple[float, ...]:
    """Return parameters of a law, some at the edge of what they can be."""
    fraction = 0.0 if draw.random() < 0.1 else float(10 ** draw.uniform(-3, -0.3))
    if name != "USL":
        return (fraction,)
    return fraction, 0.0 if draw.random() < 0.2 else float(10 ** draw.uniform(-5, -2))


def samples(name: LawName, truth: Sequence[float], setting: Setting, number: int, draw: Draw) -> dict[int, list[float]]:
    """Return samples of speed-ups by number of ranks: a serial over a parallel time each."""
    found = {}
    for size, spread in zip(setting.sizes, np.linspace(setting.few, setting.many, len(setting.sizes)), strict=True):
        serial = np.exp(spread * draw.standard_normal(number))
        parallel = np.exp(spread * draw.standard_normal(number))
        parallel *= np.where(draw.random(number) < setting.outliers, 1.5, 1.0)
        found[size] = list(FORMULAS[name](size, *truth) * serial / parallel)
    return found


def covered(name: LawName, setting: Setting, number: int, trials: int, draw: Draw) -> dict[str, list[bool]]:
    """Return for every parameter, and for the prediction, which trials' intervals held the truth."""
    found = defaultdict(list)
    for _ in range(trials):
        truth = true_parameters(name, draw)
        fitted = fits.fit(name, samples(name, truth, setting, number, draw))
        for (parameter, interval), value in zip(fitted.parameters.items(), truth, strict=True):
            found[parameter].append(interval.low <= value <= interval.high)
        ahead = fits.predict(fitted, BEYOND)
        # A millionth for what the corners of a region leave out.
        found[f"prediction for {BEYOND}"].append(
            ahead.low * (1 - 1e-6) <= FORMULAS[name](BEYOND, *truth) <= ahead.high * (1 + 1e-6)
        )
        found["law taken as missing"].append(fitted.misses)
    return found


def covered_by_percentiles(
    name: LawName, setting: Setting, number: int, trials: int, draw: Draw
) -> dict[str, list[bool]]:
    """Return the same for the percentile bootstrap of least squares over medians."""
    found = defaultdict(list)
    law, sizes = LAWS[name], np.array(SIZES, dtype=np.float64)
    columns = np.column_stack(law.columns(sizes))
    for _ in range(trials):
        truth = true_parameters(name, draw)
        rows = np.array(list(samples(name, truth, setting, number, draw).values()))
        picked = draw.integers(0, number, size=(NUM_RESAMPLES, len(SIZES), number))
        medians = np.median(rows[np.arange(len(SIZES))[:, None], picked], axis=2)
        shares = sizes / medians if law.scaling == "strong" else medians / sizes
        solvers = np.linalg.pinv(columns / shares[..., None])
        estimates = np.clip(np.einsum("rks,rs->rk", solvers, (shares - 1) / shares), 0.0, list(law.bounds.values()))
        low, high = np.quantile(estimates, [0.025, 0.975], axis=0)
        for index, parameter in enumerate(law.bounds):
            found[parameter].append(bool(low[index] <= truth[index] <= high[index]))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=10, help="of every world size")
    parser.add_argument("--noise", type=float, default=0.03, help="relative standard deviation of a time")
    parsed = parser.parse_args()
    draw = np.random.default_rng(7)
    settings = {
        "even noise": Setting(few=parsed.noise, many=parsed.noise),
        "noise grows with ranks": Setting(few=parsed.noise / 2, many=parsed.noise * 2),
        "5 % epochs of 1.5x": Setting(few=parsed.noise, many=parsed.noise, outliers=0.05),
        "2, 4 and 8 ranks only": Setting(few=parsed.noise, many=parsed.noise, sizes=(2, 4, 8)),
        "2 ranks only": Setting(few=parsed.noise, many=parsed.noise, sizes=(2,)),
    }
    judged: list[float] = []
    print(f"{parsed.trials} trials, {parsed.samples} samples a size; how often 95 % intervals hold the truth\n")
    for label, setting in settings.items():
        for name in (name for name, law in LAWS.items() if law.least_sizes <= len(setting.sizes)):
            found = covered(name, setting, parsed.samples, parsed.trials, draw)
            told = ", ".join(f"{what} {100 * np.mean(hits):.1f} %" for what, hits in found.items())
            print(f"{label:24} {name:10} {told}", flush=True)
            if label == "even noise":
                judged += [float(np.mean(found[parameter])) for parameter in LAWS[name].bounds]
    for name in LAWS:
        found = covered_by_percentiles(name, settings["even noise"], parsed.samples, parsed.trials // 4, draw)
        told = ", ".join(f"{what} {100 * np.mean(hits):.1f} %" for what, hits in found.items())
        print(f"{'percentile bootstrap':24} {name:10} {told}", flush=True)
    worst = min(judged)
    spread = 1.96 * float(np.sqrt(worst * (1 - worst) / parsed.trials))
    tell(
        "fits",
        100 * worst,
        "% of trials in which the worst parameter's interval holds the truth",
        low=100 * (worst - spread),
        high=100 * min(1.0, worst + spread),
        goal=">= 93",
        holds=worst >= GOAL,
    )


if __name__ == "__main__":
    main()
