"""What a page says of one timed case beyond its figures: how it was timed, what it lost where, what it used."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.measure.energy import samples_per_j
from harness.report import words
from harness.timings import Breakdown, Sampling, Timing

# More ranks than these are no longer told apart in a chart, and in a list they say no more.
MOST_DRAWN, _MOST_LISTED = 16, 8


def slowest(times: Sequence[float], most: int = MOST_DRAWN) -> list[int]:
    """Return which ranks to show, by their numbers: all, or the slowest where there are very many."""
    order = sorted(range(len(times)), key=lambda rank: (not math.isnan(times[rank]), -times[rank], rank))
    return sorted(order[:most])


def of_all(shown: Sequence[int], number: int) -> str:
    """Return that of ``number`` ranks only the slowest are shown; nothing where all are."""
    return f" Shown are the {len(shown)} slowest of {number:,} ranks." if len(shown) < number else ""


def breakdown(parts: Breakdown) -> str:
    """Return how the parts of an epoch's time were found and what they come to."""
    steps = words.count(parts.num_steps, "step")
    told = f"Mean seconds of an epoch of {steps}. {words.percent(parts.accounted)} of it is accounted for."
    if parts.alone:
        told += " Alone: the same work in serial runs side by side, without other ranks to wait for."
    if parts.exposed:
        low, middle, high = (
            words.seconds(max(0.0, value)) for value in (parts.exposed.low, parts.exposed.median, parts.exposed.high)
        )
        told += (
            " The difference, waiting for other ranks that computing does not hide, is at least "
            f"{middle} [{low}, {high}]."
        )
    return told


def sentences(timing: Timing) -> list[str]:
    """Return how the case was timed, what its efficiency is over, and what its communication and pipeline came to."""
    if not words.is_sound(timing):
        return ["What was recorded as a time is none, so nothing is said of it."]
    told = []
    if timing.sampling:
        told.append(sampled(timing.sampling))
    if timing.claim == "inconclusive":
        told.append(
            "The speed-up is not told apart from none: its interval, or what this machine resolves, includes 1."
        )
    if timing.efficiency and timing.efficiency_over != "one share":
        told.append(
            "Efficiency is over serial at the per-rank batch, the faster serial run: a smaller batch is no parallelism."
        )
    for one in timing.communication[:1]:
        if not words.is_time(one.epoch_s):
            continue
        told.append(
            f"Rank {one.rank} of a profiled epoch: {words.count(one.num_calls, 'collective')}, "
            f"{words.bytes_size(one.num_bytes)}, under way for {words.percent(one.busy_s / one.epoch_s)} of it, "
            f"{words.percent(one.exposed_s / one.epoch_s)} with nothing computed meanwhile."
        )
        if one.bus_bytes_per_s and one.link_bytes_per_s:
            told.append(
                f"Bus bandwidth {words.bytes_size(one.bus_bytes_per_s)}/s; an all-reduce of the largest size with "
                f"nothing beside it reaches {words.bytes_size(one.link_bytes_per_s)}/s."
            )
    if timing.pipeline:
        pipe = timing.pipeline
        told.append(
            f"Stages of the pipeline were busy {words.percent(pipe.efficiency)} of the time; {len(pipe.busy_s)} equal "
            f"stages and {words.count(pipe.num_micro_batches, 'micro-batch', 'micro-batches')} would be "
            f"{words.percent(pipe.ideal)}."
        )
    return told


def sampled(found: Sampling) -> str:
    """Return how many rounds were timed, why no more, and how many more it would take."""
    rounds = words.count(found.num_rounds, "round")
    asked, reached = words.percent(found.precision, 1), words.percent(found.reached, 1)
    if not math.isfinite(found.reached):
        return f"{rounds} timed, until the time was up: no precision can be told from it."
    if found.stopped == "precise":
        return f"{rounds} timed, until the speed-up was known to ±{asked} (±{reached})."
    needed = f"; about {found.num_needed:,} rounds would do" if found.num_needed else ""
    return f"{rounds} timed, until the time was up: the speed-up is known to ±{reached}, ±{asked} was asked{needed}."


def facts(timing: Timing) -> dict[str, str]:
    """Return what a rank owned, and what the ranks used, by name."""
    found: dict[str, str] = {}
    if timing.share:
        share = timing.share
        found["a rank owns"] = f"{words.count(share.num_cores, 'core')}, {words.count(share.num_threads, 'thread')}"
        found["memory of the machine"] = words.bytes_size(share.memory_bytes)
    own_s = dict(enumerate(map(words.median, timing.epoch_s)))
    shown = slowest([own_s.get(one.rank, 0.0) for one in timing.used], _MOST_LISTED)
    found |= {f"used by rank {one.rank}": words.used(one) for one in (timing.used[at] for at in shown)}
    if len(shown) < len(timing.used):
        found["use told of"] = f"the {len(shown)} slowest of {words.count(len(timing.used), 'rank')}"
    if (rate := samples_per_j(timing)) is not None:
        found["energy"] = f"{words.number(rate)} samples per joule"
    return found
