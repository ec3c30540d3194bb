"""The sentences of a verdict."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness.record import Divergence, Rung

CHAOTIC = (
    "; in float32 one flipped ReLU or max-pool tie can do this: it counts only if float64 (or, where there is none, "
    "other seeds) differs, too"
)


def number(value: float) -> str:
    """Return ``value`` in two significant digits, without padding: 0.013, 1.3, 45, 4.1e13."""
    if value >= sys.float_info.max:
        return "infinitely"
    if value == 0 or 0.01 <= value < 1000:
        return f"{value:.2g}" if value < 100 else f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def amount(count: int, noun: str) -> str:
    """Return for example ``1 rank`` or ``2 ranks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(names: Sequence[str], limit: int = 4) -> str:
    """Return the first ``limit`` names and how many there are besides."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def when(step: int) -> str:
    """Return ``at step 3``, or ``before training`` for the initial weights."""
    return "before training" if step < 0 else f"at step {step}"


def where(guilty: Sequence[int], num_ranks: int) -> str:
    """Return which ranks deviate."""
    if num_ranks == 1:
        return ""
    if len(guilty) == num_ranks:
        return ", on every rank"
    return f", on rank {guilty[0]} only" if len(guilty) == 1 else f", on ranks {', '.join(map(str, guilty))}"


def equal(
    against: str, margin: float, factor: float, *, num_steps: int, num_ranks: int, num_tensors: int, num_rungs: int
) -> str:
    """Say that nothing exceeds rounding, by how much, and what was looked at."""
    seen = ", ".join(
        amount(count, noun)
        for count, noun in ((num_steps, "step"), (num_ranks, "rank"), (num_tensors, "tensor"), (num_rungs, "rung"))
    )
    return (
        f"equal to {against} within rounding: largest deviation {number(margin)}x the floor, "
        f"{number(factor)}x allowed ({seen})"
    )


def differs(divergence: Divergence, guilty: Sequence[int], num_ranks: int, kind: str = "") -> str:
    """Say where a run leaves its reference first and by how much; ``kind`` says what kind of numbers it holds."""
    place = f"{when(divergence.step)}{where(guilty, num_ranks)}, in {divergence.rung} of {divergence.tensor}"
    if divergence.observed >= sys.float_info.max and kind:
        return f"differs first {place}: {kind}"
    if divergence.floor == 0:
        return f"differs first {place}: |difference| {number(divergence.observed)} where rounding explains none{kind}"
    return (
        f"differs first {place}: |difference| {number(divergence.observed)} is "
        f"{number(divergence.observed / divergence.floor)}x what rounding explains{kind}"
    )


def odd(kind: str) -> str:
    """Say that a rank holds what is no number."""
    return f"{kind} where the reference is finite"


def narrower(got: str, expected: str) -> str:
    """Say that a rank's values are of a narrower type than the reference's."""
    return f"; its values are {got} numbers, expected {expected}: it is trained, or was sent, in {got}"


def misordered(step: int, first: str, num_mistakes: int) -> str:
    """Say which sample a step trains wrongly."""
    more = f" ({amount(num_mistakes, 'such mistake')} in this step)" if num_mistakes > 1 else ""
    return f"differs first {when(step)}, in data order: {first}{more}"


def not_finite(rung: Rung, step: int, tensor: str, kind: str) -> str:
    """Say that the reference itself is no number."""
    what = f"the loss diverges by itself: {kind}" if rung == "loss" else kind
    return (
        f"{what} {when(step)} in the reference or one of its reruns, in {rung} of {tensor}, and nothing differed "
        "before: nothing can be judged; check the data, lower the learning rate"
    )


def not_repeated(who: str, rung: Rung, step: int, tensor: str) -> str:
    """Say that a training, run twice, is not the same, and where that shows first."""
    place = f"in {rung} of {tensor}" if tensor else f"in what it shows of {rung}"
    return (
        f"{who}, run twice, does not repeat itself: it varies first {when(step)}, {place}. Nothing can be judged; "
        "take out what is random (a library's dropout, augmentation, an unseeded generator), or let the workload draw "
        "it (dropout, augment)"
    )


def unresolved(names: Sequence[str], worst: float, limit: float) -> str:
    """Say that tensors moved too little to tell right from wrong."""
    return (
        f"nothing differs beyond rounding, but {amount(len(names), 'tensor')} moved too little to be judged: "
        f"{listed(names)} (the allowed error is {number(worst)} of the movement, at most {number(limit)} would do); "
        "train more steps or at a larger learning rate"
    )


def uncovered(no_signal: Sequence[str]) -> str:
    """Say that nothing was compared that a wrong strategy would have changed."""
    noise = f"; gradients are mere rounding noise in {listed(no_signal)}" if no_signal else ""
    return (
        "nothing differs beyond rounding, but no trained tensor with a gradient was compared in gradients before "
        f"clipping or parameters{noise}"
    )
