"""What a message costs: the alpha-beta model of a link, the collectives built on it, and its fit to measured times.

A message of b bytes takes ``alpha + b * beta`` seconds over a link (Hockney 1994). On n ranks with m bytes each:

    ring all-reduce            2 (n - 1) alpha + 2 (n - 1) / n m beta        Patarasu & Yuan 2009
    double binary tree         2 log2(n) alpha + 2 m beta                    Sanders, Speck & Traeff 2009
    all-gather, reduce-scatter (n - 1) (alpha + m / n beta)                  Thakur, Rabenseifner & Gropp 2005
    broadcast (pipelined)      log2(n) alpha + m beta

m is the whole: what every rank holds before an all-reduce or reduce-scatter and after an all-gather.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.measure.statistics import interval
from harness.timings import Interval

Floats = NDArray[np.float64]
Collective = Literal["all-reduce", "all-gather", "reduce-scatter", "broadcast", "send"]

# Sizes below which nothing tells latency from bandwidth.
_LEAST_SIZES = 3
_NUM_REFITS = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A link between two ranks: seconds a message takes, and bytes a second in one direction."""

    alpha_s: float
    bytes_per_s: float

    def __post_init__(self) -> None:
        for name, holds in (("alpha_s", self.alpha_s >= 0), ("bytes_per_s", self.bytes_per_s > 0)):
            if not holds or not math.isfinite(getattr(self, name)):
                raise UsageError(f"expected {name} of a link to be finite and not negative but got {self!r}")

    @property
    def beta_s(self) -> float:
        """Seconds a byte."""
        return 1 / self.bytes_per_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Fabric:
    """Nodes of ``ranks_per_node`` ranks: ``inner`` joins the ranks of a node, ``outer`` is what a whole node has."""

    inner: Link
    outer: Link
    ranks_per_node: int

    def __post_init__(self) -> None:
        if self.ranks_per_node < 1:
            raise UsageError(f"expected at least one rank per node but got {self.ranks_per_node}")

    def num_nodes(self, num_ranks: int) -> int:
        """Return how many nodes so many ranks fill."""
        return math.ceil(num_ranks / self.ranks_per_node)


def send(link: Link, num_bytes: float) -> float:
    """Return the seconds of one message."""
    return link.alpha_s + num_bytes * link.beta_s


def ring_all_reduce(link: Link, num_ranks: int, num_bytes: float) -> float:
    """Return the seconds of a ring all-reduce over equal links; 0 for one rank."""
    steps = 2 * (_checked(num_ranks, num_bytes) - 1)
    return steps * link.alpha_s + steps / num_ranks * num_bytes * link.beta_s


def tree_all_reduce(link: Link, num_ranks: int, num_bytes: float) -> float:
    """Return the seconds of a pipelined double-binary-tree all-reduce over equal links; 0 for one rank."""
    if _checked(num_ranks, num_bytes) == 1:
        return 0.0
    return 2 * math.log2(num_ranks) * link.alpha_s + 2 * num_bytes * link.beta_s


def all_gather(link: Link, num_ranks: int, num_bytes: float) -> float:
    """Return the seconds of a ring all-gather (or reduce-scatter) of ``num_bytes`` in all; 0 for one rank."""
    return (_checked(num_ranks, num_bytes) - 1) * send(link, num_bytes / num_ranks)


def broadcast(link: Link, num_ranks: int, num_bytes: float) -> float:
    """Return the seconds of a pipelined broadcast over equal links; 0 for one rank."""
    if _checked(num_ranks, num_bytes) == 1:
        return 0.0
    return math.log2(num_ranks) * link.alpha_s + num_bytes * link.beta_s


def hierarchical_all_reduce(fabric: Fabric, num_ranks: int, num_bytes: float) -> float:
    """Return the seconds of: reduce-scatter in each node, an all-reduce between nodes, all-gather in each node.

    The ranks of a node share what the node has: their shards together are the whole.
    """
    inside = min(_checked(num_ranks, num_bytes), fabric.ranks_per_node)
    nodes = fabric.num_nodes(num_ranks)
    between = min(ring_all_reduce(fabric.outer, nodes, num_bytes), tree_all_reduce(fabric.outer, nodes, num_bytes))
    return 2 * all_gather(fabric.inner, inside, num_bytes) + between


def seconds(fabric: Fabric, kind: Collective, num_ranks: int, num_bytes: float) -> float:
    """Return the seconds of a collective over ranks that fill node after node; 0 for one rank, or for no bytes.

    A ring runs through every rank of every node, so that it moves at the speed of its slowest link and crosses between
    nodes once a node; a tree crosses with the logarithm of the nodes (both as NCCL's tuning model counts them). Of an
    all-reduce the quickest is taken: ring, tree, or node by node.
    """
    if _checked(num_ranks, num_bytes) == 1 or not num_bytes:
        return 0.0
    nodes = fabric.num_nodes(num_ranks)
    slowest = fabric.inner if nodes == 1 else max(fabric.inner, fabric.outer, key=lambda link: link.beta_s)
    hops = _hops_s(fabric, num_ranks, nodes)
    share = (num_ranks - 1) / num_ranks * num_bytes * slowest.beta_s
    match kind:
        case "all-gather" | "reduce-scatter":
            return hops + share
        case "broadcast":
            return _depth_s(fabric, num_ranks, nodes) + num_bytes * slowest.beta_s
        case "send":
            return send(slowest, num_bytes)
        case "all-reduce":
            tree = 2 * (_depth_s(fabric, num_ranks, nodes) + num_bytes * slowest.beta_s)
            return min(2 * (hops + share), tree, hierarchical_all_reduce(fabric, num_ranks, num_bytes))


def bus_factor(kind: Collective, num_ranks: int) -> float:
    """Return what turns bytes a second into nccl-tests' bus bandwidth."""
    share = (num_ranks - 1) / num_ranks
    return {"all-reduce": 2 * share, "all-gather": share, "reduce-scatter": share}.get(kind, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """A link as measured: ``alpha`` in seconds, ``bytes_per_s``, and by how much the model misses the medians.

    ``errors`` holds (bytes, relative error) for every size measured.
    """

    alpha: Interval
    bytes_per_s: Interval
    errors: tuple[tuple[int, float], ...]

    @property
    def link(self) -> Link:
        """The link of the medians."""
        return Link(alpha_s=self.alpha.median, bytes_per_s=self.bytes_per_s.median)


def fit_ring(times: Sequence[tuple[int, Sequence[float]]], num_ranks: int, *, seed: int = 0) -> Fitted:
    """Return the link that explains measured ring all-reduces of ``(bytes, seconds of each repetition)``.

    Alpha and beta are fitted to each size's median by least squares of the relative errors, neither below 0; intervals
    are those of refits to resampled repetitions.

    Raises:
        UsageError: fewer than two ranks or three sizes, a size without a time, or a time not above 0.
    """
    if num_ranks < 2 or len({size for size, _ in times}) < _LEAST_SIZES:
        raise UsageError(
            f"expected all-reduces of at least {_LEAST_SIZES} sizes on 2 ranks or more but got "
            f"{len(times)} on {num_ranks}; measure more sizes"
        )
    taken = [np.asarray(repetitions, dtype=np.float64) for _, repetitions in times]
    if any(not one.size or not np.isfinite(one).all() or one.min() <= 0 for one in taken):
        raise UsageError("expected times above zero for every size; measure again")
    steps = 2 * (num_ranks - 1)
    design = np.array([[steps, steps / num_ranks * size] for size, _ in times])
    medians = np.array([np.median(one) for one in taken])
    centre = _solved(design, medians)
    draw = np.random.default_rng(seed)
    refits = np.array(
        [
            _solved(design, np.array([np.median(draw.choice(one, one.size)) for one in taken]))
            for _ in range(_NUM_REFITS)
        ]
    )
    low, high = np.quantile(refits, [0.025, 0.975], axis=0)
    errors = design @ centre / medians - 1
    return Fitted(
        alpha=Interval(median=float(centre[0]), low=float(low[0]), high=float(high[0])),
        bytes_per_s=Interval(median=_inverse(centre[1]), low=_inverse(high[1]), high=_inverse(low[1])),
        errors=tuple((size, float(error)) for (size, _), error in zip(times, errors, strict=True)),
    )


def typical_error(fitted: Fitted) -> Interval:
    """Return the median of the fit's relative errors, without sign, over sizes."""
    return interval([abs(error) for _, error in fitted.errors])


def _solved(design: Floats, medians: Floats) -> Floats:
    """Return (alpha, beta) of least relative squares, neither negative."""
    from scipy.optimize import nnls

    weighted = design / medians[:, None]
    # Bytes and steps differ by orders of magnitude: columns of like size keep the solution exact.
    scale = np.linalg.norm(weighted, axis=0)
    solution, _ = nnls(weighted / scale, np.ones(len(medians)))
    return np.asarray(solution / scale, dtype=np.float64)


def _inverse(beta_s: float) -> float:
    return 1 / float(beta_s) if beta_s > 0 else math.inf


def _hops_s(fabric: Fabric, num_ranks: int, nodes: int) -> float:
    """Return the latency of going round a ring once, without the last hop."""
    outer = nodes - 1
    return (num_ranks - 1 - outer) * fabric.inner.alpha_s + outer * fabric.outer.alpha_s


def _depth_s(fabric: Fabric, num_ranks: int, nodes: int) -> float:
    """Return the latency from a tree's root to its leaves: a chain in the node, a binary tree between nodes."""
    inside = min(num_ranks, fabric.ranks_per_node)
    return (inside - 1) * fabric.inner.alpha_s + math.log2(nodes) * fabric.outer.alpha_s


def _checked(num_ranks: int, num_bytes: float) -> int:
    if num_ranks < 1 or num_bytes < 0 or not math.isfinite(num_bytes):
        raise UsageError(f"expected at least one rank and no negative bytes but got {num_ranks} and {num_bytes}")
    return num_ranks
