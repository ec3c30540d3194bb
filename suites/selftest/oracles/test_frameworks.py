"""Two frameworks' serial runs are held against each other by the oracle's own definition."""

from __future__ import annotations

from pathlib import Path

import pytest
from oracle_toy import Array, both, off, reordered, train

from harness.errors import TraceError
from harness.oracles.frameworks import judge_frameworks
from harness.record import Rung, Trace, Verdict


def runs(directory: Path, **settings: float) -> tuple[Trace, list[Trace]]:
    """Return a serial run and two reruns of one framework."""
    (first,) = train(directory / "first", **settings)  # type: ignore[arg-type]
    (sharded,) = train(directory / "sharded", shards=2, **settings)  # type: ignore[arg-type]
    (permuted,) = train(directory / "permuted", shards=2, permute=5, **settings)  # type: ignore[arg-type]
    return first, [sharded, permuted]


def judged(tmp_path: Path, **settings: float) -> Verdict:
    """Judge a 'framework' that sums in thirds and lists its tensors backwards."""
    first, first_reruns = runs(tmp_path / "one")
    (second,) = train(tmp_path / "two", shards=3, **settings)  # type: ignore[arg-type]
    return judge_frameworks(first=first, second=reordered(second, tmp_path / "back"), first_reruns=first_reruns)


def test_two_frameworks_with_the_same_maths_are_equal(tmp_path: Path) -> None:
    verdict = judged(tmp_path)
    assert verdict.equivalent, verdict
    assert verdict.reference == "torch-serial"
    assert verdict.reason.startswith("equal to torch-serial within rounding")


def test_a_setting_that_differs_is_caught_and_named(tmp_path: Path) -> None:
    verdict = judged(tmp_path, learning_rate=0.1 * (1 + 1e-9))
    assert verdict.divergence is not None
    assert (verdict.divergence.rung, verdict.divergence.step) == ("parameters", 0)
    assert "on every rank" not in verdict.reason, "a serial run has no ranks to speak of"


def test_of_layers_that_are_off_the_first_one_is_named(tmp_path: Path) -> None:
    """What a layer gets wrong grows in those behind it: the worst one says nothing."""
    first, first_reruns = runs(tmp_path / "one")
    tamper = both(off("activations", None, None, "hidden", 1e-6), off("activations", None, None, "logits", 1.0))
    (second,) = train(tmp_path / "two", shards=3, tamper=tamper)
    verdict = judge_frameworks(first=first, second=second, first_reruns=first_reruns)
    assert verdict.divergence is not None
    assert (verdict.divergence.rung, verdict.divergence.tensor) == ("activations", "hidden")


def test_the_other_frameworks_rounding_counts_as_rounding(tmp_path: Path) -> None:
    """A framework whose own reruns stray by 1e-9 may stray by as much from the other one, but not by 1e-6."""

    def stray(by: float, at_rank: int = 0) -> Trace:
        def tamper(rung: Rung, step: int, rank: int, name: str, value: Array) -> Array:
            return value + by if rung == "loss" else value

        (trace,) = train(tmp_path / f"stray{by}", tamper=tamper)
        return trace

    first, first_reruns = runs(tmp_path / "one")

    def verdict(by: float, reruns: list[Trace]) -> Verdict:
        return judge_frameworks(first=first, second=stray(by), first_reruns=first_reruns, second_reruns=reruns)

    assert verdict(5e-9, []).conclusion == "different"
    assert verdict(5e-9, [stray(6e-9)]).equivalent
    assert verdict(1e-6, [stray(1e-6 + 1e-9)]).conclusion == "different"


def test_a_rerun_that_does_not_fit_is_named_with_its_framework(tmp_path: Path) -> None:
    first, first_reruns = runs(tmp_path / "one")
    (lacking,) = train(tmp_path / "lacking", leave_out=("loss",))
    with pytest.raises(TraceError, match="'loss' of rerun 0 of keras-serial: expected it"):
        judge_frameworks(first=first, second=first, first_reruns=first_reruns, second_reruns=[lacking])
