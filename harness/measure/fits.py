"""How far a few noisy speed-ups pin down a law of scaling.

A law is linear in its parameters (``harness.measure.laws``), so it is fitted by weighted least squares. Its
uncertainty is an ellipse from Student's t, cut to the parameters that have a meaning; every interval, of a parameter or
of a prediction, is what a figure takes within that region. bench_fits.py shows how often these hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from harness.errors import MissingRequirementError, UsageError
from harness.measure.laws import LAWS, Floats, Law, LawName, usl_peak
from harness.measure.statistics import autocorrelated
from harness.timings import Interval

# Share of the samples left out at each end of a trimmed mean.
TRIMMED = 0.25
# Times that repeat exactly are still not known better than this.
LEAST_ERROR = 1e-6
# A law misses the points if chance alone would miss them by as much this rarely.
MISFIT = 0.05
_ROUNDS = 20  # of re-weighting by the fitted values; it converges in a few
_CORNERS = 720  # of the polygon that stands for an ellipse


@dataclass(frozen=True, kw_only=True, slots=True)
class Centre:
    """Where the logarithms of one size's speed-ups lie: trimmed mean, its standard error and degrees of freedom."""

    num_ranks: int
    log: float
    error: float
    freedom: int
    num_samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """A fitted law: best estimates with 95 % intervals, and the region of parameters that they come from.

    ``region`` holds the corners of that region, a row each. ``misfit`` is how rarely chance alone would miss the points
    by as much as the law does, None without sizes to spare; where it is below 5 % the intervals are widened by it.
    """

    law: LawName
    parameters: Mapping[str, Interval]
    region: tuple[tuple[float, ...], ...]
    sizes: tuple[int, ...]
    misfit: float | None

    @property
    def misses(self) -> bool:
        """Whether the points leave the law by more than noise explains."""
        return self.misfit is not None and self.misfit < MISFIT


def centre(num_ranks: int, speedups: Sequence[float]) -> Centre:
    """Return where the samples of one size lie: a quarter is trimmed at each end, so that bad epochs move little.

    Samples stand in the order of time: such as resemble the one before them count for less. Standard error from the
    winsorised variance (Tukey & McLaughlin 1963).

    Raises:
        UsageError: one rank, fewer than 2 samples, or one that is not positive and finite.
    """
    values = np.asarray(speedups, dtype=np.float64)
    if num_ranks < 2 or len(values) < 2 or not np.isfinite(values).all() or values.min() <= 0:
        raise UsageError(
            f"expected at least 2 positive speed-ups on 2 or more ranks but got {list(speedups)} on {num_ranks}; "
            "time more rounds"
        )
    logs, num_cut = np.sort(np.log(values)), int(TRIMMED * len(values))
    kept = logs[num_cut : len(logs) - num_cut]
    winsorised = np.clip(np.log(values), kept[0], kept[-1])
    error = float(winsorised.std(ddof=1)) / ((1 - 2 * num_cut / len(logs)) * math.sqrt(len(logs)))
    likeness = autocorrelated(winsorised) or 0.0
    error *= math.sqrt((1 + likeness) / (1 - likeness))
    return Centre(
        num_ranks=num_ranks,
        log=float(kept.mean()),
        error=max(error, LEAST_ERROR),
        freedom=len(kept) - 1,
        num_samples=len(logs),
    )


def half_width(found: Centre) -> float:
    """Return the half-width of the 95 % interval of a centre, in logarithms."""
    return _quantile(found.freedom) * found.error


def fit(name: LawName, speedups: Mapping[int, Sequence[float]]) -> Fit:
    """Return a law fitted to samples of speed-ups by number of ranks; one rank's, 1 by definition, are left out.

    Raises:
        UsageError: too few sizes for this law, or samples that are none.
        MissingRequirementError: scipy is not installed.
    """
    law, sizes = LAWS[name], sorted(size for size in speedups if size > 1)
    if len(sizes) < law.least_sizes:
        raise UsageError(
            f"expected {law.least_sizes} or more world sizes beyond 1 for {name} but got {sizes or 'none'}; "
            "time more of them"
        )
    centres = [centre(size, speedups[size]) for size in sizes]
    estimate, covariance, freedom, misfit = _least_squares(law, centres)
    best, region = _region(law, estimate, covariance, freedom)
    ends = zip(law.bounds, best, region.min(axis=0), region.max(axis=0), strict=True)
    return Fit(
        law=name,
        parameters={
            parameter: Interval(median=float(middle), low=float(low), high=float(high))
            for parameter, middle, low, high in ends
        },
        region=tuple(tuple(map(float, corner)) for corner in region),
        sizes=tuple(sizes),
        misfit=misfit,
    )


def predict(found: Fit, num_ranks: float) -> Interval:
    """Return the speed-up that a fitted law says ``num_ranks`` will have, with what its parameters leave open."""
    law = LAWS[found.law]
    best = [parameter.median for parameter in found.parameters.values()]
    speedups = _speedups(law, np.array([best, *found.region]), num_ranks)
    return Interval(median=float(speedups[0]), low=float(speedups.min()), high=float(speedups.max()))


def peak(found: Fit) -> Interval | None:
    """Return the number of ranks beyond which more make it slower, None for a law in which that cannot be."""
    if found.law != "USL":
        return None
    best = usl_peak(*(parameter.median for parameter in found.parameters.values()))
    peaks = [usl_peak(sigma, kappa) for sigma, kappa in found.region]
    return Interval(median=best, low=min(peaks), high=max(peaks))


def growth(speedups: Mapping[int, Sequence[float]]) -> Interval | None:
    """Return by how much the Karp-Flatt fraction grows with every rank, None with fewer than 2 sizes beyond 1.

    It is sigma + kappa p in the terms of USL, here without bounds: below 0 where more ranks lose less.
    """
    sizes = sorted(size for size in speedups if size > 1)
    if len(sizes) < 2:
        return None
    estimate, covariance, freedom, _ = _least_squares(LAWS["USL"], [centre(size, speedups[size]) for size in sizes])
    half = _quantile(freedom) * math.sqrt(covariance[1, 1])
    return Interval(median=float(estimate[1]), low=float(estimate[1] - half), high=float(estimate[1] + half))


def _least_squares(law: Law, centres: Sequence[Centre]) -> tuple[Floats, Floats, float, float | None]:
    """Return the parameters without bounds, their covariance, its degrees of freedom, and the misfit.

    A size weighs as many samples as it has; the variances are each size's own (a sandwich), since more ranks may be
    noisier, and their degrees of freedom Satterthwaite's, the smaller of the parameters'.
    """
    ranks = np.array([float(item.num_ranks) for item in centres])
    errors = np.array([item.error for item in centres])
    freedoms = np.array([item.freedom for item in centres])
    counts = np.array([item.num_samples for item in centres])
    logs = np.array([item.log for item in centres])
    shares = np.exp(np.log(ranks) - logs if law.scaling == "strong" else logs - np.log(ranks))
    columns = np.column_stack(law.columns(ranks))
    values = shares
    for _ in range(_ROUNDS):
        weights = np.sqrt(counts) / values
        solver = np.linalg.pinv(columns * weights[:, None])
        estimate = solver @ ((shares - 1) * weights)
        values = np.maximum(1 + columns @ estimate, shares / 10)
    pieces = solver**2 * (counts * errors**2)
    covariance = (solver * (counts * errors**2)) @ solver.T
    freedom = float((pieces.sum(axis=1) ** 2 / (pieces**2 / freedoms).sum(axis=1)).min())
    spare = len(centres) - columns.shape[1]
    if not spare:
        return estimate, covariance, freedom, None
    noise = float((freedoms * counts * errors**2).sum() / freedoms.sum())
    excess = float((counts * ((shares - values) / values) ** 2).sum() / noise / spare)
    misfit = float(_scipy().special.fdtrc(spare, freedoms.sum(), excess))
    if misfit < MISFIT:
        return estimate, covariance * max(1.0, excess), min(freedom, spare), misfit
    return estimate, covariance, freedom, misfit


def _region(law: Law, estimate: Floats, covariance: Floats, freedom: float) -> tuple[Floats, Floats]:
    """Return the best parameters within their bounds, and the corners of the region around them.

    The region is where the squared distance exceeds that of the best by no more than t squared: what a profile
    likelihood allows each single figure.
    """
    factor = np.linalg.cholesky(covariance)
    whitening = np.linalg.inv(factor)
    bounds = list(law.bounds.values())
    best = np.asarray(_scipy().optimize.lsq_linear(whitening, whitening @ estimate, (0.0, bounds)).x, dtype=np.float64)
    best = np.clip(best, 0.0, bounds)
    radius = math.hypot(float(np.linalg.norm(whitening @ (best - estimate))), _quantile(freedom))
    if len(estimate) == 1:
        ends = np.array([[-radius], [radius]]) @ factor.T + estimate
        return best, np.clip(ends, 0.0, bounds)
    angles = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    corners = radius * np.column_stack([np.cos(angles), np.sin(angles)]) @ factor.T + estimate
    for column, bound in enumerate(bounds):
        corners = _cut(corners, corners[:, column])
        corners = _cut(corners, bound - corners[:, column]) if math.isfinite(bound) else corners
    return best, np.clip(np.vstack([corners, best]), 0.0, bounds)


def _cut(corners: Floats, inside: Floats) -> Floats:
    """Return a convex polygon without what lies where ``inside`` is negative (Sutherland & Hodgman 1974)."""
    kept = []
    for index in range(len(corners)):
        here, there = inside[index - 1], inside[index]
        if (here < 0) != (there < 0):
            kept.append(corners[index - 1] + (corners[index] - corners[index - 1]) * here / (here - there))
        if there >= 0:
            kept.append(corners[index])
    return np.array(kept).reshape(-1, corners.shape[1])


def _speedups(law: Law, parameters: Floats, num_ranks: float) -> Floats:
    columns = np.array([float(column[0]) for column in law.columns(np.array([num_ranks]))])
    share = 1 + parameters @ columns
    return np.asarray(num_ranks / share if law.scaling == "strong" else num_ranks * share)


def _quantile(freedom: float) -> float:
    return float(_scipy().special.stdtrit(freedom, 0.975))


def _scipy() -> ModuleType:
    try:
        import scipy.optimize
        import scipy.special
    except ImportError as error:
        raise MissingRequirementError(
            "fitting laws of scaling needs scipy, which is not installed: pip install 'lockstep-harness[report]'"
        ) from error
    return scipy
