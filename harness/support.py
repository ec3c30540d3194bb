"""What a strategy promises for a workload: equality, also with a named reference, statistics, or nothing and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from harness.errors import SpecError
from harness.features import features
from harness.models import base as models
from harness.spec import Device, Workload
from harness.strategies.base import Strategy

_ONE_GO = "a statistical check trains in one go"


def limit(workload: Workload, strategy: Strategy) -> str | None:
    """Return why the strategy's library cannot train the workload, or None."""
    resized = workload.check.resume_ranks is not None
    if resized and strategy.batchnorm != "plain" and models.has_batchnorm(models.layers(workload)):
        return "a batch norm sees other groups of samples after the number of ranks has changed: there is no reference"
    if strategy.equality == "statistical" and workload.check.resume_at is not None:
        return _ONE_GO
    return _matching(strategy.limits, workload)


def refusal(workload: Workload, strategy: Strategy, world_size: int) -> str | None:
    """Return why the workload cannot be trained on so many ranks: the library's limit, or what its check refuses."""
    why = limit(workload, strategy)
    if why is None and strategy.check is not None:
        try:
            strategy.check(workload, world_size, strategy.chosen)
        except SpecError as error:
            return str(error)
    return why


def finding(workload: Workload, strategy: Strategy) -> str | None:
    """Return in what the strategy's library is known to differ from serial on the workload, or None."""
    return _matching(strategy.findings, workload)


def promise(workload: Workload, strategy: Strategy, world_size: int) -> str:
    """Return ``exact``, ``reference:NAME``, ``statistical``, ``finding: what`` or ``not supported: why``."""
    why, known = limit(workload, strategy), finding(workload, strategy)
    if why:
        return f"not supported: {why}"
    return f"finding: {known}" if known else _kept(strategy, world_size, features(workload))


def cell(feature: str, strategy: Strategy, world_size: int, device: Device) -> str:
    """Return what a strategy promises for one feature by itself, as ``promise`` does for a workload."""
    if device not in strategy.backends:
        return f"not supported: {strategy.unsupported.get(device, f'does not run on {device}')}"
    if strategy.equality == "statistical" and feature.startswith("resume"):
        return f"not supported: {_ONE_GO}"
    if feature in strategy.limits:
        return f"not supported: {strategy.limits[feature]}"
    known = strategy.findings.get(feature) or strategy.findings.get("*")
    if known:
        return f"finding: {known}"
    return _kept(strategy, world_size, (feature,))


def together(strategy: Strategy) -> dict[str, str]:
    """Return the features that a strategy supports apart but not together (``"a+b"``), each with the reason."""
    return {key: f"not supported: {why}" for key, why in strategy.limits.items() if "+" in key} | {
        key: f"finding: {what}" for key, what in strategy.findings.items() if "+" in key
    }


def _kept(strategy: Strategy, world_size: int, present: Collection[str]) -> str:
    if strategy.equality == "statistical":
        return "statistical"
    grouped = strategy.groups(world_size, strategy.chosen) > 1 and strategy.batchnorm != "plain"
    return f"reference:{strategy.batchnorm}-batchnorm" if grouped and "batch-norm" in present else "exact"


def _matching(reasons: Mapping[str, str], workload: Workload) -> str | None:
    has = set(features(workload))
    return next((reason for key, reason in reasons.items() if key == "*" or set(key.split("+")) <= has), None)
