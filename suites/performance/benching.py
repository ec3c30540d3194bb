"""What the benchmark scripts share: a runner of their own, and the closing line that machines read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from harness import scratch
from harness.launchers.local import Pool
from harness.runner import Runner, Settings, preload
from harness.strategies import base as strategies


@contextmanager
def runner() -> Iterator[Runner]:
    """A runner with its own scratch folder; its zygotes and files are gone afterwards."""
    strategies.discover()
    folder = scratch.create()
    pool = Pool(preload)
    try:
        yield Runner(Settings(scratch=folder, timeout_s=120.0), pool)
    finally:
        pool.close()
        scratch.remove(folder)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return median, 5th and 95th percentile."""
    low, middle, high = np.percentile(np.asarray(values), [5, 50, 95])
    return float(middle), float(low), float(high)


def tell(name: str, figure: float, unit: str, *, low: float, high: float, goal: str, holds: bool) -> None:
    """Print the closing line of a benchmark."""
    figures = {"figure": figure, "unit": unit, "low": low, "high": high}
    rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in figures.items()}
    print(json.dumps({"name": name, **rounded, "goal": goal, "holds": holds}), flush=True)
