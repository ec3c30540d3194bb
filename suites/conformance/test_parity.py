"""Every strategy against its serial reference, rung by rung, rank by rank."""

from __future__ import annotations

from harness import Verdict


def test_parallel_equals_serial(verdict: Verdict) -> None:
    assert verdict.conclusion in ("equivalent", "not-verified"), verdict
