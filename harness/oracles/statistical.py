"""Does a strategy that is not meant to compute the same train as well? Paired seeds and two one-sided tests."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.errors import UsageError
from harness.oracles import tost
from harness.oracles.pair import Pair
from harness.oracles.reasons import number
from harness.oracles.spread import NOTHING_SHARED
from harness.record import Conclusion, Divergence, Statistics, StatisticsName, Verdict

# The margin, as a share of what serial training gains: of its first loss minus its held-out loss at the end.
MARGIN = 0.05
# The margin of the gradients' length: a factor. A sum instead of an average, or one of two ranks left out, are 2.
FACTOR = 1.5
# Seeds trained before it is known how many it takes, the most that are ever trained, and how many needed ones leave no
# hope for that: a pilot's spread is itself uncertain by a factor of 1.5, so that it may ask for twice too many.
PILOT, MOST, HOPELESS = 5, 16, 32
POWER = 0.9
_WORST_FIRST: tuple[Conclusion, ...] = ("different", "inconclusive", "equivalent")


def judge(pairs: Sequence[Pair]) -> Verdict:
    """Return the verdict over pairs of trainings, one a seed.

    ``different`` as soon as one breaks what must hold exactly, or diverges where serial training does not. Otherwise
    from the differences d = parallel - serial over the seeds of the held-out loss and of the mean training loss, with
    +-5 % of what serial training gains as the margin, and of the logarithm of the gradients' length, with that of 1.5:
    ``equivalent`` where all mean differences have their 90 % interval within the margin, ``different`` where one has
    its 95 % interval wholly beyond it, else ``inconclusive``. As equivalence needs all, it is wrong at most as often as
    one test: no correction is due.

    Raises:
        UsageError: fewer than two pairs, where none is broken.
    """
    for pair in pairs:
        if pair.broken is not None:
            return _verdict(pairs, "different", f"{pair.why} (seed {pair.seed})", broken=pair.broken)
    if len(pairs) < 2:
        raise UsageError(f"expected at least two pairs of trainings but got {len(pairs)}; train more seeds")
    unfit = _unfit(pairs)
    if unfit is not None:
        return _verdict(pairs, *unfit)
    found = statistics(pairs)
    conclusions = [tost.conclude(_differences(one), one.margin) for one in found]
    # The worst quantity speaks, and nobody else, unless all agree.
    worst = next(one for one in _WORST_FIRST if one in conclusions)
    told = [each for one, each in zip(conclusions, found, strict=True) if one == worst]
    return _verdict(pairs, worst, _reason(worst, told), found=found)


def statistics(pairs: Sequence[Pair]) -> tuple[Statistics, ...]:
    """Return what at least two finite pairs say about each quantity that all of them show."""
    margin = MARGIN * _gain(pairs)
    seeds = tuple(pair.seed for pair in pairs)
    found = [_statistics("held-out loss", seeds, [pair.held_out for pair in pairs], margin)]
    training = [pair.training for pair in pairs if pair.training is not None]
    if len(training) == len(pairs):
        found.append(_statistics("mean training loss", seeds, training, margin))
    lengths = [(pair.first, pair.last) for pair in pairs if pair.first is not None and pair.last is not None]
    if len(lengths) == len(pairs):
        first, last = zip(*lengths, strict=True)
        found.append(_statistics("log gradient length at first", seeds, first, math.log(FACTOR)))
        found.append(_statistics("log gradient length at last", seeds, last, math.log(FACTOR)))
    return tuple(found)


def _statistics(
    name: StatisticsName, seeds: tuple[int, ...], values: Sequence[tuple[float, float]], margin: float
) -> Statistics:
    differences = [parallel - serial for serial, parallel in values]
    interval = tost.paired_interval(differences, tost.INSIDE)
    return Statistics(
        name=name,
        seeds=seeds,
        serial=tuple(serial for serial, _ in values),
        parallel=tuple(parallel for _, parallel in values),
        mean=interval.median,
        low=interval.low,
        high=interval.high,
        margin=margin,
        needed=tost.num_pairs_needed(tost.deviation(differences) / margin, wanted=POWER, least=PILOT),
    )


def _differences(found: Statistics) -> list[float]:
    return [parallel - serial for serial, parallel in zip(found.serial, found.parallel, strict=True)]


def _gain(pairs: Sequence[Pair]) -> float:
    return float(np.mean([pair.start - pair.held_out[0] for pair in pairs]))


def _unfit(pairs: Sequence[Pair]) -> tuple[Conclusion, str] | None:
    """Return what to conclude where there is nothing to do statistics with, and why."""
    for pair in pairs:
        shown = (
            ("held-out loss", pair.held_out),
            ("training loss", pair.training),
            ("gradient", pair.first),
            ("gradient", pair.last),
        )
        for quantity, both in shown:
            if both is None:
                continue
            serial, parallel = both
            if not math.isfinite(serial):
                return "inconclusive", f"serial training itself ends with no finite {quantity} (seed {pair.seed})"
            if not math.isfinite(parallel):
                return "different", f"the {quantity} is not finite, where serial training's is (seed {pair.seed})"
    gain = _gain(pairs)
    if gain <= 0:
        return "inconclusive", f"serial training gains nothing ({gain:+.2g}), so that there is nothing to lose"
    return None


def _reason(conclusion: Conclusion, found: Sequence[Statistics]) -> str:
    """Say of the quantities with this conclusion how far they are from serial's, in their intervals."""
    confidence = tost.OUTSIDE if conclusion == "different" else tost.INSIDE
    shown = [(one.name, tost.paired_interval(_differences(one), confidence)) for one in found]
    told = ", ".join(
        f"{name} {d.median:+.2g} [{d.low:+.2g}, {d.high:+.2g}] where +-{number(one.margin)} is allowed"
        for (name, d), one in zip(shown, found, strict=True)
    )
    over = f"over {len(found[0].seeds)} paired seeds, parallel - serial: {told}"
    margin = f"{100 * MARGIN:g} % of what serial training gains, or a factor of {FACTOR:g} in its gradients"
    if conclusion != "inconclusive":
        return f"{over}; {'within' if conclusion == 'equivalent' else 'wholly beyond'} {margin}"
    needed = max(one.needed for one in found)
    if needed > len(found[0].seeds):
        return f"{over}; not within {margin}: this spread takes {needed} seeds, and {MOST} are trained at most"
    return f"{over}; neither within nor wholly beyond {margin}: too close to it to tell"


def _verdict(
    pairs: Sequence[Pair],
    conclusion: Conclusion,
    reason: str,
    *,
    found: tuple[Statistics, ...] = (),
    broken: Divergence | None = None,
) -> Verdict:
    if conclusion == "equivalent" and any(pair.alone for pair in pairs):
        conclusion, reason = "not-verified", NOTHING_SHARED
    return Verdict(
        conclusion=conclusion,
        reason=reason,
        reference="statistical",
        not_shown=pairs[0].not_shown,
        divergence=broken,
        statistics=found,
    )
