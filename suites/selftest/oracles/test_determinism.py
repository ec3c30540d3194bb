"""A training that does not repeat itself is told where it varies first."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from oracle_toy import Clean, both, off, train

from harness.oracles.determinism import require, varied
from harness.record import Rung, Trace


def again(tmp_path: Path, **changes: object) -> tuple[Trace, Trace]:
    (first,) = train(tmp_path / "first")
    (second,) = train(tmp_path / "second", **changes)  # type: ignore[arg-type]
    return first, second


def test_the_same_training_twice_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    assert varied(*again(tmp_path)) is None


def test_another_order_of_summation_is_a_variation(tmp_path: Path) -> None:
    found = varied(*again(tmp_path, shards=2))
    assert found is not None
    assert (found.rung, found.step) == ("loss", 0)


@pytest.mark.parametrize("rung", ["loss", "parameters", "data order"])
def test_the_last_bit_counts_and_the_earliest_step_is_named(tmp_path: Path, rung: Rung) -> None:
    name = {"loss": "loss", "parameters": "two.weight", "data order": "samples"}[rung]
    by = 1 if rung == "data order" else 1e-15
    found = varied(*again(tmp_path, tamper=both(off(rung, 3, 0, name, by), off("loss", 4, 0, "loss"))))
    assert found is not None
    assert (found.rung, found.step, found.tensor) == (rung, 3, name)


def test_a_training_that_diverges_alike_repeats_itself(tmp_path: Path) -> None:
    wild = off("parameters", 2, 0, "one.bias", math.nan)
    (first,), (second,) = train(tmp_path / "a", tamper=wild), train(tmp_path / "b", tamper=wild)
    assert varied(first, second) is None
    (tame,) = train(tmp_path / "c")
    assert varied(first, tame) is not None


def test_a_rung_that_only_one_of_them_shows_is_a_variation(tmp_path: Path) -> None:
    found = varied(*again(tmp_path, leave_out=("optimizer state",)))
    assert found is not None
    assert (found.rung, found.tensor) == ("optimizer state", "")


def test_what_varies_is_not_judged_and_what_repeats_itself_is(tmp_path: Path) -> None:
    setting = Clean(tmp_path)
    verdict = setting.judge()
    (same,) = train(tmp_path / "same")
    assert require(verdict, setting.reference, same) is verdict
    (other,) = train(tmp_path / "other", tamper=off("loss", 1, 0, "loss", 1e-12))
    found = require(verdict, setting.reference, other)
    assert found.conclusion == "inconclusive"
    assert found.divergence is None
    assert found.reason.startswith(
        "the reference, run twice, does not repeat itself: it varies first at step 1, in loss of loss. Nothing can be"
    )
