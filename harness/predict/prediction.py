"""From compute, sizes and links to the time of a step on any number of ranks, with the range of what is not known.

Backward takes twice as long as forward. Gradients are ready bucket by bucket, evenly over backward; a bucket is sent
when it is ready and those before it have gone:

    backward  |---1---|---2---|---3---|
    network           |==1==| |==2==| |==3==|      exposed: what is left when backward ends
                                       ^^^^^

Where sending is slower than computing, buckets queue. Parameters that are gathered before they are used are the same
picture in a mirror. A pipeline of n stages takes m + n - 1 turns for m micro-batches.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from harness.errors import UsageError
from harness.measure.network import Fabric, Link, seconds, send
from harness.predict import hardware
from harness.predict.hardware import Outlook, Place
from harness.predict.volumes import BUCKET_BYTES, Scheme, Sizes, Transfer, transfers
from harness.timings import Scaling

Recompute = Literal["never", "except-last", "always"]

# Two of three matrix products of a layer belong to its backward.
BACKWARD_SHARE = 2 / 3
# Below this loss nothing is said to limit.
_HARMLESS = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """A training to predict: what it computes and sends.

    ``sample_s`` are the seconds that one rank alone takes for a sample. ``batch`` counts the samples of one rank (weak
    scaling) or of all (strong scaling, pipelines and tensor parallelism). ``overlap`` tells whether sending goes on
    beside computing; ``buckets`` fixes the number of pieces that ``bucket_bytes`` would make of the gradients.
    """

    scheme: Scheme
    sizes: Sizes
    sample_s: float
    batch: float
    scaling: Scaling = "weak"
    overlap: bool = True
    bucket_bytes: float = BUCKET_BYTES
    buckets: int | None = None
    micro_batches: int | None = None
    recompute: Recompute = "never"

    def __post_init__(self) -> None:
        for name in ("sample_s", "batch", "bucket_bytes"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"expected {name} above zero but got {value}")

    @property
    def splits_model(self) -> bool:
        """Whether ranks share out the model rather than the batch: then the batch is that of all."""
        return self.scheme in {"pipeline", "tensor"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """The likely value, and how far off it may be: see ``predict``."""

    low: float
    likely: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The seconds of one step: computing, sending that nothing hides, all sending, and waiting in a pipeline."""

    compute_s: float
    exposed_s: float
    sending_s: float
    bubble_s: float = 0.0
    latency_s: float = 0.0

    @property
    def total_s(self) -> float:
        """Return the seconds of the step."""
        return self.compute_s + self.exposed_s + self.bubble_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """One number of ranks: seconds a step, speed-up over one rank, efficiency, and what limits."""

    num_ranks: int
    step_s: Range
    speedup: Range
    efficiency: Range
    step: Step
    limit: str


def predict(setup: Setup, fabrics: Callable[[Outlook], Fabric], sizes: Iterable[int]) -> list[Prediction]:
    """Return a prediction for each number of ranks; ``fabrics`` gives the links as likely, at best and at worst.

    The range holds what latency, bandwidth and overlap may make of it (at worst nothing overlaps), and nine of ten of
    what published curves reach of their prediction: that is what input, stragglers and contention cost, which no link
    tells of.
    """
    return [_predicted(setup, fabrics, num_ranks) for num_ranks in sizes]


def step(setup: Setup, fabric: Fabric, num_ranks: int) -> Step:
    """Return the parts of one step.

    Raises:
        UsageError: no rank, or a fixed batch of fewer samples than ranks.
    """
    if num_ranks < 1:
        raise UsageError(f"expected at least one rank but got {num_ranks}")
    if setup.scheme == "pipeline":
        return _pipeline(setup, fabric, num_ranks)
    shared = setup.splits_model or setup.scaling == "strong"
    if shared and not setup.splits_model and setup.batch < num_ranks:
        raise UsageError(f"expected a global batch of a sample a rank or more but got {setup.batch:g} on {num_ranks}")
    samples = setup.batch
    if shared:
        # Samples are whole: where they do not come out even, the fullest rank is waited for.
        samples = setup.batch / num_ranks if setup.splits_model else math.ceil(setup.batch / num_ranks)
    compute_s = setup.sample_s * samples
    if num_ranks == 1:
        return Step(compute_s=compute_s, exposed_s=0.0, sending_s=0.0)
    sent = transfers(setup.scheme, setup.sizes, setup.batch)
    exposed_s = sum(
        _exposed(setup, fabric, num_ranks, [one for one in sent if one.beside == phase], phase_s)
        for phase, phase_s in (
            ("forward", (1 - BACKWARD_SHARE) * compute_s),
            ("backward", BACKWARD_SHARE * compute_s),
            ("alone", 0.0),
        )
    )
    return Step(
        compute_s=compute_s,
        exposed_s=exposed_s,
        sending_s=_sending(setup, fabric, num_ranks, sent),
        latency_s=_sending(setup, _weightless(fabric), num_ranks, sent),
    )


def speedup(setup: Setup, num_ranks: int, one_s: float, many_s: float) -> float:
    """Return by what ``num_ranks`` train more samples a second than one rank, from the seconds of a step of each."""
    grows = setup.scaling == "weak" and not setup.splits_model
    return one_s / many_s * (num_ranks if grows else 1)


def _predicted(setup: Setup, fabrics: Callable[[Outlook], Fabric], num_ranks: int) -> Prediction:
    one_s = one_rank(setup).total_s
    gains: dict[Outlook, float] = {}
    for outlook in get_args(Outlook):
        own = dataclasses.replace(setup, overlap=setup.overlap and outlook != "worst")
        gains[outlook] = speedup(setup, num_ranks, one_s, step(own, fabrics(outlook), num_ranks).total_s)
    likely = step(setup, fabrics("likely"), num_ranks)
    low, high = gains["worst"], gains["best"]
    if num_ranks > 1:
        known = hardware.reached(place(setup.scheme, fabrics("likely"), num_ranks))
        low, high = min(low, known.low * gains["likely"]), max(high, known.high * gains["likely"])
    gain = Range(low=low, likely=gains["likely"], high=high)
    # The same, as seconds of a step.
    work = one_s * speedup(setup, num_ranks, 1.0, 1.0)
    return Prediction(
        num_ranks=num_ranks,
        step_s=Range(low=work / high, likely=likely.total_s, high=work / low),
        speedup=gain,
        efficiency=Range(low=low / num_ranks, likely=gain.likely / num_ranks, high=high / num_ranks),
        step=likely,
        limit=_limit(likely, setup, fabrics("likely"), num_ranks),
    )


def place(scheme: Scheme, fabric: Fabric, num_ranks: int) -> Place:
    """Return where ranks stand, for what is known of predictions there."""
    if scheme == "pipeline":
        return "pipeline"
    return "one node" if fabric.num_nodes(num_ranks) == 1 else "several nodes"


def one_rank(setup: Setup) -> Step:
    """Return the step of one rank that has the whole model and trains plainly: what a speed-up is over."""
    return Step(compute_s=setup.sample_s * setup.batch, exposed_s=0.0, sending_s=0.0)


def exposed(phase_s: float, pieces: int, piece_s: float) -> float:
    """Return the seconds by which sending ``pieces`` outlasts a phase in which they become ready one by one."""
    return max(phase_s / pieces + pieces * piece_s - phase_s, piece_s)


def _exposed(setup: Setup, fabric: Fabric, num_ranks: int, sent: list[Transfer], phase_s: float) -> float:
    if not sent:
        return 0.0
    whole_s = _sending(setup, fabric, num_ranks, sent)
    if not setup.overlap or not phase_s:
        return whole_s
    pieces = _pieces(setup, max(one.num_bytes for one in sent))
    return exposed(phase_s, pieces, whole_s / pieces)


def _sending(setup: Setup, fabric: Fabric, num_ranks: int, sent: Iterable[Transfer]) -> float:
    """Return the seconds of all transfers, each in as many pieces as it goes in."""
    total = 0.0
    for one in sent:
        pieces = _pieces(setup, one.num_bytes) if one.beside != "alone" else 1
        total += pieces * _seconds(setup, fabric, num_ranks, one, one.num_bytes / pieces)
    return total


def _seconds(setup: Setup, fabric: Fabric, num_ranks: int, one: Transfer, num_bytes: float) -> float:
    if setup.scheme == "server" and fabric.num_nodes(num_ranks) == 1:
        # The server is the host: every rank has its own way there.
        return send(fabric.inner, num_bytes)
    return seconds(fabric, one.kind, num_ranks, num_bytes)


def _pieces(setup: Setup, num_bytes: float) -> int:
    return setup.buckets or max(1, math.ceil(num_bytes / setup.bucket_bytes))


def _pipeline(setup: Setup, fabric: Fabric, num_ranks: int) -> Step:
    """Return a GPipe step: forwards of all micro-batches, then backwards, on stages of equal cost."""
    count = setup.micro_batches or num_ranks
    turn_s = setup.sample_s * setup.batch / (num_ranks * count)
    forward_s = (1 - BACKWARD_SHARE) * turn_s
    again = {"never": 0.0, "except-last": (count - 1) / count, "always": 1.0}[setup.recompute]
    busy_s = count * (turn_s + again * forward_s)
    if num_ranks == 1:
        return Step(compute_s=busy_s, exposed_s=0.0, sending_s=0.0)
    hop_s = latency_s = 0.0
    if setup.sizes.cut_bytes is not None:
        first = transfers("pipeline", setup.sizes, setup.batch / count)[0]
        hop_s = seconds(fabric, "send", num_ranks, first.num_bytes)
        latency_s = seconds(_weightless(fabric), "send", num_ranks, first.num_bytes)
    turns = count + num_ranks - 1
    # While a stage computes, its last result travels; only at both ends nothing is left to compute beside.
    beside_s = max(0.0, hop_s - forward_s) if setup.overlap else hop_s
    return Step(
        compute_s=busy_s,
        exposed_s=2 * (turns * beside_s + (num_ranks - 1) * (hop_s - beside_s)),
        sending_s=2 * turns * hop_s,
        bubble_s=(num_ranks - 1) * busy_s / count,
        latency_s=2 * turns * latency_s,
    )


def _weightless(fabric: Fabric) -> Fabric:
    """Return the fabric with latency only."""
    inner, outer = (Link(alpha_s=one.alpha_s, bytes_per_s=1e30) for one in (fabric.inner, fabric.outer))
    return Fabric(inner=inner, outer=outer, ranks_per_node=fabric.ranks_per_node)


def _limit(found: Step, setup: Setup, fabric: Fabric, num_ranks: int) -> str:
    lost = {"bubble": found.bubble_s, "sending": found.exposed_s}
    worst = max(lost, key=lambda name: lost[name])
    if lost[worst] <= _HARMLESS * found.total_s:
        return "computing"
    if worst == "bubble":
        return f"pipeline bubble: {num_ranks} stages, {setup.micro_batches or num_ranks} micro-batches"
    between = fabric.num_nodes(num_ranks) > 1 and fabric.outer.bytes_per_s < fabric.inner.bytes_per_s
    where = "between nodes" if between else "within the node"
    return f"{'latency' if found.latency_s > found.sending_s / 2 else 'bandwidth'} {where}"
