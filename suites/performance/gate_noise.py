"""Made-up sides with the noise of real ones.

Drawn again, from sides of equal work, is how

    sides differ      how far a real side's steps and yardsticks lay from those of all sides
    starts differ     how far the rounds of a real start lay from its side, in their order: spikes come in bursts
    one start goes    how far the steps of a real single start lay from its side, in their order

Steps and yardsticks are drawn together, so that a yardstick helps as much as it did, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gate_steps import NUM_STARTS, Side
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """Deviations of logarithms: (step, yardstick) a side; rounds and bare steps a start; steps a single start."""

    typical_s: tuple[float, float]
    sides: Floats
    starts: list[tuple[Floats, Floats]]
    singles: list[Floats]

    def __str__(self) -> str:
        steps = np.concatenate([rounds[:, 0] for rounds, _ in self.starts])
        starts = np.array([np.median(rounds[:, 0] - rounds[:, 1]) for rounds, _ in self.starts])
        left = self.sides[:, 0] - self.sides[:, 1]
        return (
            f"steps scatter by {_percent(steps)} ({np.mean(steps > 0.05):.1%} of them over 5 % late), in units of the "
            f"yardstick starts by {_percent(starts)}; sides by {_percent(self.sides[:, 0])}, in its units by "
            f"{_percent(left)}"
        )


def found(sides: Sequence[Side]) -> Noise:
    """Return the noise of real sides of equal work."""
    logs = [[np.log(np.array(rounds)) for rounds in side.rounds] for side in sides]
    centres = np.array([_centre(np.concatenate(side)) for side in logs])
    typical = np.median(centres, axis=0)
    return Noise(
        typical_s=(float(np.exp(typical[0])), float(np.exp(typical[1]))),
        sides=_true(centres - typical, logs),
        starts=[
            (rounds - centre, np.log(np.array(bare)) - centre[0])
            for side, log, centre in zip(sides, logs, centres, strict=True)
            for rounds, bare in zip(log, side.bare, strict=True)
        ],
        singles=[np.log(np.array(side.single)) - centre[0] for side, centre in zip(sides, centres, strict=True)],
    )


def made_up(noise: Noise, draw: np.random.Generator, slowdown: float = 0.0) -> Side:
    """Return a side as the real ones are laid out, its steps longer by ``slowdown``."""
    step_s, unit_s = noise.typical_s
    step_s *= 1 + slowdown
    mood = noise.sides[draw.integers(len(noise.sides))]
    starts = [noise.starts[number] for number in draw.integers(len(noise.starts), size=NUM_STARTS)]
    single = noise.singles[draw.integers(len(noise.singles))]
    return Side(
        rounds=[(np.exp(rounds + mood) * (step_s, unit_s)).tolist() for rounds, _ in starts],
        bare=[(np.exp(bare + mood[0]) * step_s).tolist() for _, bare in starts],
        single=(np.exp(single + mood[0]) * step_s).tolist(),
    )


def _true(sides: Floats, logs: Sequence[Sequence[Floats]]) -> Floats:
    """Return how sides deviate, less what they seem to deviate in units of the yardstick for having few starts."""
    starts = [[float(np.median(rounds[:, 0] - rounds[:, 1])) for rounds in side] for side in logs]
    chance = _deviation(np.concatenate([np.array(side) - np.median(side) for side in starts])) ** 2
    chance *= np.pi / 2 / NUM_STARTS  # the variance of a median
    ratios = sides[:, 0] - sides[:, 1]
    seen = _deviation(ratios) ** 2
    left = np.sqrt(max(0.0, 1 - chance / seen)) * ratios
    return np.stack([sides[:, 1] + left, sides[:, 1]], axis=1)


def _centre(rounds: Floats) -> tuple[float, float]:
    """Return where a side's steps and yardsticks lie, the steps by their ratio to the yardstick beside each."""
    unit = float(np.median(rounds[:, 1]))
    return unit + float(np.median(rounds[:, 0] - rounds[:, 1])), unit


def _percent(values: Floats) -> str:
    return f"{100 * _deviation(values):.2f} %"


def _deviation(values: Floats) -> float:
    """Return the standard deviation, from the quartiles of normal values."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / 1.349
