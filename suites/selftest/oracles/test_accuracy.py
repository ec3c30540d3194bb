"""Held-out accuracies are compared sample by sample, with an interval that covers."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from harness.errors import UsageError
from harness.oracles.accuracy import accuracy_difference, compare_accuracy, departure, judge_accuracy, mcnemar
from harness.record import Accuracy, Verdict
from harness.timings import Interval


def table(both: int, only_serial: int, only_parallel: int, neither: int) -> tuple[list[bool], list[bool]]:
    pairs = [(True, True)] * both + [(True, False)] * only_serial + [(False, True)] * only_parallel
    pairs += [(False, False)] * neither
    return [serial for serial, _ in pairs], [parallel for _, parallel in pairs]


def test_the_counts_and_accuracies_are_those_of_the_table() -> None:
    found = compare_accuracy(*table(85, 4, 6, 5))
    assert (found.serial, found.parallel, found.num_held_out) == (0.89, 0.91, 100)
    assert (found.num_only_serial, found.num_only_parallel) == (4, 6)
    assert found.difference.median == pytest.approx(0.02)
    assert found.difference.low < 0 < found.difference.high


def test_the_interval_is_newcombes_published_one() -> None:
    """Newcombe 1998, 50 pairs of which 36 are right twice, 12 and 2 once, by method 10: 0.0569 to 0.3404."""
    found = compare_accuracy(*table(36, 2, 12, 0)).difference
    assert found.median == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0569, abs=5e-5)
    assert found.high == pytest.approx(0.3404, abs=5e-5)


def test_runs_that_predict_alike_have_an_interval_around_zero_that_shrinks_with_samples() -> None:
    few, many = (compare_accuracy(*table(97 * n, 0, 0, 3 * n)) for n in (1, 100))
    assert few.p_value == many.p_value == 1.0
    assert few.difference.low < 0 < few.difference.high
    assert many.difference.high < few.difference.high / 5
    assert judge_accuracy(few.difference) == "inconclusive", "100 samples cannot show 1 % of accuracy"
    assert judge_accuracy(many.difference) == "equivalent"


def test_a_run_that_is_worse_is_different_and_never_equivalent() -> None:
    found = compare_accuracy(*table(800, 100, 10, 90))
    assert found.p_value < 1e-6
    assert found.difference.high < -0.05
    assert judge_accuracy(found.difference) == "different"
    assert judge_accuracy(Interval(median=-0.02, low=-0.04, high=0.0)) == "inconclusive"


def test_the_interval_covers_the_true_difference_in_95_of_100_trials() -> None:
    draw = np.random.default_rng(0)
    shares = (0.93, 0.03, 0.02, 0.02)
    intervals = [compare_accuracy(*table(*draw.multinomial(300, shares))).difference for _ in range(400)]
    covered = sum(interval.low <= shares[2] - shares[1] <= interval.high for interval in intervals)
    assert 0.92 * 400 <= covered < 400


def test_without_predictions_the_interval_is_wider() -> None:
    paired = compare_accuracy(*table(940, 10, 10, 40))
    unpaired = accuracy_difference(0.95, 0.95, 1000)
    assert unpaired.low < paired.difference.low < 0 < paired.difference.high < unpaired.high


def test_mcnemars_test_is_the_exact_binomial_one() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 5) == mcnemar(5, 0) == 2 / 32
    assert mcnemar(2, 12) == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert 0 <= mcnemar(500, 5000) < 1e-300


@pytest.mark.parametrize(("serial", "parallel"), [([], []), ([True], [True, False]), ([[True]], [[True]])])
def test_arrays_that_are_no_pairs_are_bad_input(serial: list[bool], parallel: list[bool]) -> None:
    with pytest.raises(UsageError, match="the same held-out samples"):
        compare_accuracy(serial, parallel)


def test_accuracies_that_are_none_are_bad_input() -> None:
    with pytest.raises(UsageError, match=r"in \[0, 1\]"):
        accuracy_difference(97.0, 0.97, 100)
    with pytest.raises(UsageError, match="at least one sample"):
        accuracy_difference(0.97, 0.97, 0)


PLAIN = Verdict(conclusion="equivalent", reason="")
OWN_MATHS = Verdict(conclusion="equivalent", reason="", reference="per-shard-batchnorm")
REACHED = Accuracy(serial=0.97, parallel=0.97, num_held_out=359, epochs=6)


@pytest.mark.parametrize(
    ("verdict", "loss", "accuracy", "said"),
    [
        (PLAIN, 1.0 + 3e-7, 0.97, None),
        (PLAIN, 1.01, 0.97, "mean loss of its first epoch was 1.01"),
        (PLAIN, float("nan"), 0.97, "mean loss of its first epoch was nan"),
        (OWN_MATHS, 1.02, 0.97, None),
        (OWN_MATHS, 1.5, 0.97, "it trains something else than what was checked"),
        (PLAIN, 1.0, 0.96, None),
        (PLAIN, 1.0, 0.80, "held-out accuracy fell to 80.0% where serial training reaches 97.0%"),
        (PLAIN, 1.0, 1.00, None),
    ],
)
def test_a_timed_training_that_leaves_the_serial_one_is_told(
    verdict: Verdict, loss: float, accuracy: float, said: str | None
) -> None:
    reached = msgspec.structs.replace(REACHED, parallel=accuracy)
    told = departure([1.0, 0.5], [loss, 0.4], reached, verdict)
    assert told is None if said is None else said in (told or "")
