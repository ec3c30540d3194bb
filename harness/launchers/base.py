"""Preparing the ranks of a case for a communication library: one function a launcher, registered where it is defined.

A launcher starts nothing itself: it answers the case's jobs with whatever environment their library wants to find.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.registry import Registry
from harness.spec import Job

Prepare = Callable[[Sequence[Job]], tuple[Job, ...]]

_registry: Registry[Prepare] = Registry("launcher", "harness.launchers")


def launcher(name: str) -> Callable[[Prepare], Prepare]:
    """Register the decorated ``prepare(jobs) -> jobs`` as launcher ``name``; a strategy names it as its ``launcher``.

    ``prepare`` gets the jobs of every rank of one case, in the order of their ranks, right before they are sent.
    """
    return lambda prepare: _registry.register(name, prepare)


def get(name: str) -> Prepare:
    """Return launcher ``name``; raise UnknownNameError with the nearest names."""
    return _registry.get(name)


@launcher("local")
def prepare(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Return the jobs as they are: forked ranks that meet through the job's rendezvous file need nothing more."""
    return tuple(jobs)
