"""Strategies that only a test declares, wrong ones mostly, and how they are judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harness import Case, Job, Trace, Workload, strategy
from harness.record import Verdict
from harness.runner import Runner
from harness.spec import Fault
from harness.strategies import base as strategies


@contextmanager
def declared(*trains: Callable[[Job], tuple[Trace, ...]], **settings: Any) -> Iterator[None]:
    """Register strategies, PyTorch's unless told, by the names of their functions for as long as the context lasts."""
    family = {"framework": "torch", "requires": ("torch",), "reference_of": "torch-serial"}
    settings = family | {"backends": {"cpu": "gloo"}} | settings
    with strategies._registry.passing():
        for train in trains:
            strategy(train.__name__, **settings)(train)
        yield


def judged(runner: Runner, name: str, trained: Workload, bug: str = "", world_size: int = 2) -> Verdict:
    """Return the verdict on a strategy, with a bug injected if one is named."""
    case = Case(workload=trained.name, strategy=name, world_size=world_size)
    return runner.verdict(case, trained, Fault(name=bug) if bug else None)
