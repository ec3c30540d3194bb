"""What the benchmark scripts share: a runner of their own, a rival process, and the closing line that machines read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from harness import scratch
from harness.launchers.local import Pool
from harness.measure.epochs import series_warnings
from harness.measure.statistics import paired_ratio
from harness.runner import Runner
from harness.strategies import base as strategies
from harness.training import Settings, preload

HERE = Path(__file__).parent


@contextmanager
def runner(*, power: bool = True, data_root: str | None = None) -> Iterator[Runner]:
    """A runner with its own scratch folder; its zygotes and files are gone afterwards.

    Without ``power`` no case is trained with mutants, too. ``data_root`` is where data files lie.
    """
    strategies.discover()
    folder = scratch.create()
    pool = Pool(preload)
    try:
        yield Runner(Settings(scratch=folder, timeout_s=120.0, power=power, data_root=data_root), pool)
    finally:
        pool.close()
        scratch.remove(folder)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rival:
    """A script that measures the same thing without Lockstep: it says "ready", then answers each line "go"."""

    process: subprocess.Popen[str]
    errors: IO[str]

    def ask(self) -> tuple[float, ...]:
        """Let it measure once and return its numbers."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return tuple(map(float, self._line().split()))

    def wait_until_ready(self) -> None:
        """Return once it has imported what it needs."""
        line = self._line()
        assert line == "ready\n", f"expected 'ready' but got {line!r}"

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            # What it has to say comes last.
            raise SystemExit("the rival ended instead of answering; its errors:\n" + self.errors.read()[-4_000:])
        return line


@contextmanager
def rival(script: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Rival]:
    """Start a script of this folder as a rival; it has ended afterwards."""
    with ExitStack() as stack:
        errors: IO[str] = stack.enter_context(tempfile.TemporaryFile("w+"))
        process = subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | (environment or {}),
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        yield Rival(process=process, errors=errors)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return median, 5th and 95th percentile."""
    low, middle, high = np.percentile(np.asarray(values), [5, 50, 95])
    return float(middle), float(low), float(high)


def show(taken: Mapping[str, Sequence[float]]) -> None:
    """Print each side's epochs, and what weakens them."""
    for name, epochs in taken.items():
        middle, low, high = spread(epochs)
        print(f"{name:18} {len(epochs)} epochs: median {middle:.4f} s, 5 to 95 %: {low:.4f} to {high:.4f}")
        for warning in series_warnings(name, epochs):
            print(f"  {warning}")


def tell_cost(name: str, unit: str, side: Sequence[float], rivals: Sequence[Sequence[float]], limit: float) -> None:
    """Print what ``side`` costs over two equal rivals that were timed in turns with it, and these over each other."""
    noise = paired_ratio(rivals[1], rivals[0])
    print(f"the rivals over each other: {noise.median:.4f} [{noise.low:.4f}, {noise.high:.4f}]")
    either = [float(pair) for pair in np.mean(rivals, axis=0)]
    ratio = paired_ratio(side, either)
    holds = ratio.median <= limit
    tell(name, ratio.median, unit, low=ratio.low, high=ratio.high, goal=f"<= {limit}", holds=holds)


def upper_share(num: int, total: int) -> float:
    """Return the upper end of the one-sided 95 % interval of a share (Clopper and Pearson 1934)."""
    from scipy.special import betaincinv

    return float(betaincinv(num + 1, total - num, 0.95)) if num < total else 1.0


def tell(name: str, figure: float, unit: str, *, low: float, high: float, goal: str, holds: bool) -> None:
    """Print the closing line of a benchmark."""
    figures = {"figure": figure, "unit": unit, "low": low, "high": high}
    rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in figures.items()}
    print(json.dumps({"name": name, **rounded, "goal": goal, "holds": holds}), flush=True)
