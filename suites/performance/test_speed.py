"""Every strategy timed against serial training on one share, on the whole machine, and at the per-rank batch."""

from __future__ import annotations

from harness.session import Run
from harness.timings import Timing


def test_speed_is_measured_only_where_the_case_is_equivalent(timing: Timing, run: Run) -> None:
    assert (timing.speedup is not None) == run.verdict().equivalent, timing.struck


def test_parallel_training_reaches_the_accuracy_of_serial_training(timing: Timing, run: Run) -> None:
    accuracy = run.accuracy()
    # In weak scaling the batch grows with the ranks, and as many epochs hold fewer steps.
    enough = 0.97 if timing.scaling == "strong" else 0.8
    assert accuracy.serial >= enough
    # Where the library is not meant to compute the same, neither is its accuracy: within a few of 359 samples.
    statistical = run.offer.strategy.equality == "statistical"
    assert accuracy.parallel >= (accuracy.serial - 0.02 if statistical else enough)
