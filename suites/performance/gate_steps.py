"""A synthetic step of about 20 ms in fresh processes pinned to one core: real processes, real noise.

A side is what one run would measure in its seconds, laid out as each tool recommends:

    several starts   fork, a short warm-up, rounds of (yardstick, step), and one or more steps without a yardstick
    a single one     fork, steps
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass

import numpy as np

from harness.measure import yardstick

STEP_S = 0.02
# A start first runs a twentieth of a step and one yardstick: what they touch is there when they are timed.
WARMUP_SHARE = 0.05
NUM_STARTS, YARDSTICK_SHARE = 10, 0.42
_WEIGHTS = np.random.default_rng(1).standard_normal((64, 128)).astype(np.float32)
_INPUTS = np.random.default_rng(2).standard_normal((64, 64)).astype(np.float32)
_SWEPT = np.ones(1 << 15, dtype=np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """Seconds of one side: (step, yardstick) a round and start, then steps without one, and those of a single start."""

    rounds: list[list[tuple[float, float]]]
    bare: list[list[float]]
    single: list[float]

    def processes(self) -> list[list[float]]:
        """Return every step of every start: as much measured time as rounds with their yardsticks take."""
        return [[step for step, _ in rounds] + more for rounds, more in zip(self.rounds, self.bare, strict=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How the seconds of a side are spent."""

    num_units: int
    num_rounds: int
    num_bare: int
    num_single: int


def plan(seconds_per_side: float, core: int) -> Plan:
    """Find how much work takes a step's time on ``core``, and how many steps go into a side."""
    os.sched_setaffinity(0, {core})
    some = 200
    took_s = min(_work(some) for _ in range(20))
    each_s = seconds_per_side / NUM_STARTS - (WARMUP_SHARE + YARDSTICK_SHARE) * STEP_S
    num_rounds = max(2, round(each_s / (STEP_S * (1 + YARDSTICK_SHARE))))
    return Plan(
        num_units=round(some * STEP_S / took_s),
        num_rounds=num_rounds,
        num_bare=max(1, round(each_s / STEP_S) - num_rounds),
        num_single=round(seconds_per_side / STEP_S),
    )


def measure(own: Plan, slowdown: float) -> Side:
    """Measure one side whose step does that much more work."""
    units = round(own.num_units * (1 + slowdown))
    found = [_start(units, own.num_rounds, own.num_bare, warm=own.num_units) for _ in range(NUM_STARTS)]
    (_, single) = _start(units, 0, own.num_single, warm=0)
    return Side(rounds=[rounds for rounds, _ in found], bare=[bare for _, bare in found], single=single)


def _start(units: int, num_rounds: int, num_bare: int, *, warm: int) -> tuple[list[tuple[float, float]], list[float]]:
    """Run steps in a fresh process and return their times."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _work(round(warm * WARMUP_SHARE))
            if num_rounds:
                yardstick.seconds()
            rounds = [(yardstick.seconds(), _work(units))[::-1] for _ in range(num_rounds)]
            told = json.dumps([rounds, [_work(units) for _ in range(num_bare)]]).encode()
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(told)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    rounds, bare = json.loads(answer)
    return [(step, unit) for step, unit in rounds], bare


def _work(units: int) -> float:
    start_s = time.monotonic()
    for _ in range(units):
        hidden = np.maximum(_INPUTS @ _WEIGHTS, 0)
        ((hidden @ _WEIGHTS.T) * 0.01).sum()
        (_SWEPT * 0.5).sum()
    return time.monotonic() - start_s
