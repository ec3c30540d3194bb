"""Every strategy against its serial reference, rung by rung, rank by rank."""

from __future__ import annotations

from harness import Verdict
from harness.minimise.command import asked
from harness.session import Run
from harness.support import finding


def test_parallel_equals_serial(run: Run, verdict: Verdict) -> None:
    known = finding(run.offer.workload, run.offer.strategy)
    if known is None or verdict.conclusion == "not-verified":
        smaller = f"{verdict}\nthe smallest case: {asked(run.case, run.workload)}"
        assert verdict.conclusion in ("equivalent", "not-verified"), smaller
    else:
        # The library's own fault, kept with its evidence. When it is mended, this says so.
        assert verdict.conclusion == "different", f"no longer as found ({known}): {verdict}"
        # Another difference must not hide behind the known one.
        assert verdict.divergence is not None
        assert verdict.divergence.rung == known.partition(": ")[0], f"not where it was found ({known}): {verdict}"
