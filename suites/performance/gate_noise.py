"""Made-up sides with the noise of real ones: scatter is drawn from them, how starts and sides differ is fitted.

log step      = start + machine + slow change within the side + scatter
log yardstick =         machine + slow change within the side + scatter (of the same round)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gate_steps import NUM_STARTS, STEP_S, Plan, Side
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """Logarithmic scatter: rounds of (step, yardstick) around their start, and deviations of starts and machine.

    ``scatter`` has a row a round, in the order in which they were measured.
    """

    scatter: Floats
    start: float
    machine: float
    change: float
    yardstick_s: float

    def __str__(self) -> str:
        spikes = float(np.mean(self.scatter[:, 0] > 0.05))
        return (
            f"steps scatter by {100 * _deviation(self.scatter[:, 0]):.2f} % ({100 * spikes:.1f} % of them over "
            f"5 % late), starts by {100 * self.start:.2f} %, the machine by {100 * self.machine:.2f} % side to side"
        )


def fitted(sides: Sequence[Side]) -> Noise:
    """Return the noise of real, equal sides; those with two starts or fewer tell nothing."""
    logs = [[np.log(np.array(rounds)) for rounds in side.rounds] for side in sides]
    scatter = np.concatenate([rounds - np.median(rounds, axis=0) for side in logs for rounds in side])
    centres = [np.array([np.median(rounds[:, 0] - rounds[:, 1]) for rounds in side]) for side in logs]
    machine = np.array([np.median(np.concatenate(side)[:, 1]) for side in logs])
    # Neighbouring starts share the machine's state: what they differ in is theirs.
    steps = np.concatenate([np.diff(values) for values in centres]) / math.sqrt(2)
    return Noise(
        scatter=scatter,
        start=_deviation(steps),
        machine=_deviation(np.diff(machine)) / math.sqrt(2),
        change=_deviation(np.concatenate([np.diff([np.median(r[:, 1]) for r in side]) for side in logs]))
        / math.sqrt(2),
        yardstick_s=float(np.exp(np.median(machine))),
    )


def made_up(noise: Noise, own: Plan, draw: np.random.Generator, slowdown: float = 0.0) -> Side:
    """Return a side as the real ones are laid out, its steps longer by ``slowdown``."""
    mood = draw.normal(0, noise.machine)
    slow = math.log(STEP_S * (1 + slowdown))

    def start(number: int) -> tuple[Floats, Floats]:
        # Rounds that follow each other stay together: spikes come in bursts.
        first = int(draw.integers(0, len(noise.scatter)))
        rows = noise.scatter[(first + np.arange(number)) % len(noise.scatter)]
        level = mood + draw.normal(0, noise.change)
        return np.exp(slow + level + draw.normal(0, noise.start) + rows[:, 0]), noise.yardstick_s * np.exp(
            level + rows[:, 1]
        )

    rounds, bare = [], []
    for _ in range(NUM_STARTS):
        steps, units = start(own.num_rounds + own.num_bare)
        rounds.append(list(zip(steps[: own.num_rounds].tolist(), units[: own.num_rounds].tolist(), strict=True)))
        bare.append(steps[own.num_rounds :].tolist())
    return Side(rounds=rounds, bare=bare, single=start(own.num_single)[0].tolist())


def _deviation(values: Floats) -> float:
    """Return the standard deviation, from the quartiles of normal values."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / 1.349
