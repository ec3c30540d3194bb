"""What a mistake leaves in the toy's traces: changes of what is recorded, each of which may use what was before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from oracle_toy import Array

from harness.record import Rung

BEFORE: Rung = "gradients before clipping"
AFTER: Rung = "gradients after clipping"
STATE: Rung = "optimizer state"
Change = Callable[["Seen", int, int, str, Array], Array]


class Seen:
    """A tamper that remembers what was recorded before, on every rank, so that a change may use it."""

    def __init__(self, rung: Rung, change: Change, *more: Rung) -> None:
        self.rungs, self.change = (rung, *more), change
        self.values: dict[tuple[Rung, int, int, str], Array] = {}

    def __call__(self, rung: Rung, step: int, rank: int, name: str, value: Array) -> Array:
        self.values[rung, step, rank, name] = value.copy()
        return self.change(self, step, rank, name, value) if rung in self.rungs else value

    def of(self, rung: Rung, step: int, rank: int, name: str) -> Array:
        return self.values[rung, step, rank, name]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where something is recorded."""

    step: int
    rank: int
    name: str


def plainly(change: Callable[[Array], Array]) -> Change:
    return lambda _seen, _step, _rank, _name, value: change(value)


def not_clipped(seen: Seen, step: int, rank: int, name: str, value: Array) -> Array:
    return seen.of(BEFORE, step, rank, name)


def times(factor: float) -> Change:
    return plainly(lambda value: factor * value)


def when(holds: Callable[[Place], bool], change: Change) -> Change:
    def changed(seen: Seen, step: int, rank: int, name: str, value: Array) -> Array:
        place = Place(step=step, rank=rank, name=name)
        return change(seen, step, rank, name, value) if holds(place) else value

    return changed


def previous(rung: Rung) -> Change:
    return lambda seen, step, rank, name, value: seen.of(rung, step - 1, rank, name) if step > 0 else value


def not_zeroed(seen: Seen, step: int, rank: int, name: str, value: Array) -> Array:
    return value + seen.of(BEFORE, step - 1, rank, name) if step else value


def as_at_first(seen: Seen, step: int, rank: int, name: str, value: Array) -> Array:
    return seen.of("parameters", -1, rank, name)


def moved(factor: float) -> Change:
    def change(seen: Seen, step: int, rank: int, name: str, value: Array) -> Array:
        before = seen.values.get(("parameters", step - 1, rank, name))
        return value if before is None else before + factor * (value - before)

    return change


def updated_twice(seen: Seen, step: int, rank: int, name: str, value: Array) -> Array:
    before = seen.of("buffers at next forward", step, rank, name)
    return before + 1.9 * (value - before)


def noisy(size: float) -> Change:
    def change(seen: Seen, step: int, rank: int, name: str, value: Array) -> Array:
        draw = np.random.default_rng([step + 1, len(name)])
        return value * (1 + size * draw.normal(size=value.shape))

    return change


def decayed(share: float) -> Change:
    def change(seen: Seen, step: int, rank: int, name: str, value: Array) -> Array:
        return value + share * seen.of("parameters", step - 1, rank, name.partition(":")[2])

    return change


def forgotten(seen: Seen, step: int, rank: int, name: str, value: Array) -> Array:
    return seen.of(AFTER, step, rank, name.partition(":")[2])


def skewed(seen: Seen, step: int, rank: int, name: str, value: Array) -> Array:
    return value + (1 - 2 * rank) * np.arange(1.0, 1.0 + value.size).reshape(value.shape)


def clipped_by_ranks_of_its_own(seen: Seen, step: int, rank: int, name: str, value: Array) -> Array:
    return (0.7 if rank else 0.6) * value
