"""What kind of numbers a rank holds is said where that alone tells what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from oracle_toy import Array, Clean, Tamper

from harness.record import Rung


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    return Clean(tmp_path_factory.mktemp("clean"))


def rounded(kind: str, name: str = "one.weight") -> Tamper:
    """Return a tamper that sends one tensor's gradient through a narrower type."""

    def tamper(rung: Rung, _step: int, _rank: int, tensor: str, value: Array) -> Array:
        if (rung, tensor) != ("gradients before clipping", name):
            return value
        if kind == "bfloat16":
            bits = value.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
            return bits.view(np.float32).astype(np.float64)
        return value.astype(kind).astype(np.float64)

    return tamper


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_values_that_came_through_a_narrower_type_are_told_by_its_name(clean: Clean, kind: str) -> None:
    verdict = clean.judge(tamper=rounded(kind))
    assert verdict.conclusion == "different"
    assert verdict.divergence is not None
    assert verdict.divergence.tensor == "one.weight"
    assert verdict.reason.endswith(
        f"x what rounding explains; its values are {kind} numbers, expected float64: "
        f"it is trained, or was sent, in {kind}"
    )


def test_a_tensor_of_so_few_values_that_they_may_fit_by_chance_is_not_accused(clean: Clean) -> None:
    def halved(rung: Rung, _step: int, _rank: int, tensor: str, value: Array) -> Array:
        return np.full_like(value, 0.5) if (rung, tensor) == ("parameters", "two.bias") else value

    verdict = clean.judge(tamper=halved)
    assert verdict.conclusion == "different"
    assert "numbers, expected" not in verdict.reason


def test_a_training_in_float32_throughout_is_no_surprise_where_its_reference_is_one(tmp_path: Path) -> None:
    setting = Clean(tmp_path, dtype="float32")

    def doubled(rung: Rung, _step: int, _rank: int, _tensor: str, value: Array) -> Array:
        return 2 * value if rung == "gradients before clipping" else value

    verdict = setting.judge(tamper=doubled)
    assert verdict.conclusion == "different"
    assert "numbers, expected" not in verdict.reason
