"""What keeps a strategy from scaling, and what makes it scale better than it can: read from its timings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.timings import BaselineName, Interval, Part, Timing

PARTS: Mapping[Part, str] = {
    "data": "data loading",
    "forward": "the forward pass, with what it communicates",
    "backward": "the backward pass, with what it communicates",
    "communication": "communication",
    "optimizer": "the optimizer",
    "step": "the step, with what it communicates",
    "idle": "waiting for the slowest rank",
    "other": "what no part accounts for",
}
LOSSES: Mapping[str, str] = {
    "batch": "the smaller batch a rank gets",
    "machine": "sharing the machine, which costs trainings that have nothing to do with each other as much",
}
# Serial training that fills this share of the memory may be slowed by it.
FULL = 0.9

Costs = Mapping[Part, float]


def cause(timings: Mapping[int, Timing]) -> str | None:
    """Return what most of the time is lost to, in words, or None where nothing tells; timings by number of ranks.

    The largest size speaks. Where its losses are known, the largest; where that is what ranks do together, or losses
    are not known, the part that grows most: against as many serial trainings alone, else against the fewest ranks.
    """
    largest = max(timings)
    worst = _worst_loss(timings[largest])
    if worst is not None and worst != "ranks":
        return f"on {largest} ranks most is lost to {LOSSES.get(worst, worst)}"
    grown, since = _grown(timings)
    losses = {part: seconds for part, seconds in grown.items() if seconds > 0}
    if not losses:
        return None
    part = max(losses, key=lambda name: losses[name])
    return f"{100 * losses[part] / sum(losses.values()):.0f} % of what {since} is {PARTS[part]}"


def _worst_loss(timing: Timing) -> str | None:
    """Return the name of the factor that takes most, of those that are a loss beyond noise."""
    lost = [loss for loss in timing.losses if loss.factor.high < 1]
    return min(lost, key=lambda loss: loss.factor.median).name if lost else None


def _grown(timings: Mapping[int, Timing]) -> tuple[Costs, str]:
    """Return by how much each part grew, in rank-seconds a sample, and since when.

    A part that is spread perfectly takes as many rank-seconds for a sample on any number of ranks.
    """
    sizes = sorted(size for size, timing in timings.items() if timing.breakdown and timing.breakdown.ranks)
    if not sizes or sizes[-1] != max(timings):
        return {}, ""
    largest = timings[sizes[-1]]
    costs = _costs(largest, sizes[-1])
    alone = largest.breakdown.alone if largest.breakdown is not None else {}
    before: Costs
    if alone and largest.scaling == "strong":
        before = {part: seconds / largest.num_samples for part, seconds in alone.items()}
        return _beyond(costs, before), f"{sizes[-1]} ranks take beyond as many trainings alone"
    if len(sizes) > 1:
        before = _costs(timings[sizes[0]], sizes[0])
        return _beyond(costs, before), f"a sample costs more on {sizes[-1]} than on {sizes[0]} ranks"
    waits: tuple[Part, ...] = ("communication", "idle")
    return {part: costs.get(part, 0.0) for part in waits}, f"{sizes[-1]} ranks spend on each other"


def _costs(timing: Timing, num_ranks: int) -> Costs:
    """Return the rank-seconds a sample of every part."""
    assert timing.breakdown is not None
    rows = timing.breakdown.ranks
    parts: Sequence[Part] = list(dict.fromkeys(part for row in rows for part in row))
    share = num_ranks / len(rows) / timing.num_samples
    return {part: share * sum(row.get(part, 0.0) for row in rows) for part in parts}


def _beyond(costs: Costs, before: Costs) -> Costs:
    return {part: costs.get(part, 0.0) - before.get(part, 0.0) for part in (*costs, *before)}


def above_linear(timing: Timing, num_ranks: int, *, serial_memory_bytes: float = 0.0) -> str | None:
    """Return why a speed-up is above linear, or that its baseline is doubtful; None where it is not, beyond noise."""
    speedup = timing.speedup
    if speedup is None or speedup.low <= num_ranks:
        return None
    start = f"{speedup.median:.2f}x on {num_ranks} ranks is above linear"
    small = over(timing, "per-rank batch")
    if small is not None and small.low <= num_ranks:
        return (
            f"{start} because a rank's smaller batch is cheaper a sample, for serial, too: over serial at that batch "
            f"it is {small.median:.2f}x"
        )
    if timing.share is not None and serial_memory_bytes > FULL * timing.share.memory_bytes:
        return f"{start}: serial fills the machine's memory, which ranks that hold less do not"
    checked = "serial at the per-rank batch does not explain it" if small is not None else "its cause was not measured"
    return f"{start}: {checked}; look for caches, for work that is left out, or for a slow baseline"


def over(timing: Timing, name: BaselineName) -> Interval | None:
    """Return the speed-up over a baseline, None where it was not timed."""
    baseline = timing.baseline(name)
    return None if baseline is None else baseline.speedup
