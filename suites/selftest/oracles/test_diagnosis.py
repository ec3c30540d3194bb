"""What is said of a difference: the cause, if the numbers where it begins show it, and nothing if they don't."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from mistakes import (
    AFTER,
    BEFORE,
    STATE,
    Seen,
    as_at_first,
    clipped_by_ranks_of_its_own,
    decayed,
    forgotten,
    moved,
    noisy,
    not_clipped,
    not_zeroed,
    plainly,
    previous,
    skewed,
    times,
    updated_twice,
    when,
)
from oracle_toy import Array, Clean, Tamper, spread, train, untouched

from harness.oracles.diagnosis.base import _registry
from harness.oracles.diagnosis.causes import CAUSES
from harness.oracles.diagnosis.scene import Context
from harness.record import LADDER, Diagnosis, Rung, Verdict
from harness.spec import Check, Optimizer, Schedule, Workload

# As the toy trains: 12, 12 and 9 samples a step, momentum 0.9, clipped to a norm of 0.5.
SGD = Workload(
    name="toy",
    model="toy",
    dataset="toy",
    optimizer=Optimizer(name="sgd", learning_rate=0.1, momentum=0.9),
    clip_norm=0.5,
    check=Check(num_samples=33, global_batch=12, num_steps=6),
)
ADAM = msgspec.structs.replace(SGD, optimizer=Optimizer(name="adam", learning_rate=0.1))
# The tamper, the cause and how sure it is, and some of its words.
CASES: dict[str, tuple[Seen, str, str, str]] = {
    "doubled": (
        Seen(BEFORE, times(2)),
        "summed-not-averaged",
        "certain",
        "every gradient is exactly 2x the reference: summed over 2 ranks instead of averaged",
    ),
    "halved": (
        Seen(BEFORE, times(0.5)),
        "divided-twice",
        "certain",
        "every gradient is exactly 0.5x the reference: divided by the 2 ranks twice",
    ),
    "one tensor doubled on rank 1": (
        Seen(BEFORE, when(lambda at: at.rank == 1 and at.name == "two.bias", times(2))),
        "summed-not-averaged",
        "certain",
        "on rank 1 the gradient of two.bias is exactly 2x the reference",
    ),
    "another factor": (
        Seen(BEFORE, times(1.25)),
        "gradients-scaled",
        "certain",
        "every gradient is exactly 1.25x the reference: a factor that should not be there",
    ),
    "a full batch": (
        Seen(BEFORE, when(lambda at: at.step == 2, times(9 / 12))),
        "wrong-divisor",
        "certain",
        "divided by a full batch of 12 samples where the batch has 9",
    ),
    "zero": (
        Seen(BEFORE, when(lambda at: at.step == 3 and at.name == "one.weight", times(0))),
        "zeroed-communication",
        "certain",
        "the gradient of one.weight is zero in step 3",
    ),
    "always zero": (
        Seen(BEFORE, when(lambda at: at.name == "one.weight", times(0))),
        "trained-frozen",
        "certain",
        "the gradient of one.weight is zero in every step",
    ),
    "stale": (
        Seen(BEFORE, when(lambda at: at.rank == 1, previous(BEFORE))),
        "stale-gradients",
        "certain",
        "on rank 1 every gradient of step 1 is that of step 0",
    ),
    "not zeroed": (
        Seen(BEFORE, not_zeroed),
        "gradients-not-zeroed",
        "certain",
        "every gradient of step 1 still holds that of step 0",
    ),
    "each rank its own": (
        Seen(BEFORE, skewed),
        "not-reduced",
        "certain",
        "every gradient is another one on every rank, and the mean of all ranks is right",
    ),
    "rounded to float32": (
        Seen(BEFORE, plainly(lambda value: value.astype(np.float32).astype(np.float64))),
        "low-precision-reduction",
        "certain",
        "the rounding of float32",
    ),
    "clipped before": (
        Seen(BEFORE, lambda seen, step, rank, name, value: noisy(0.3)(seen, step, rank, name, 0.3 * value)),
        "clipped-per-rank",
        "certain",
        "each rank clips its own gradient before the reduction",
    ),
    "not clipped": (
        Seen(AFTER, not_clipped),
        "clip-skipped",
        "certain",
        "every gradient is the same before and after clipping",
    ),
    "copies counted": (
        Seen(AFTER, times(0.5**0.5)),
        "clip-wrong-norm",
        "certain",
        "(1.414x: every rank's copy is counted, 2 in all)",
    ),
    "own norms": (
        Seen(AFTER, clipped_by_ranks_of_its_own),
        "clip-wrong-norm",
        "certain",
        "each rank is clipped by a norm of its own",
    ),
    "momentum lost": (
        Seen(STATE, when(lambda at: at.step == 3 and ":" in at.name, forgotten)),
        "optimizer-state-lost",
        "certain",
        "nothing differs before step 3: there every momentum begins again at zero",
    ),
    "decay nobody asked for": (
        Seen(STATE, when(lambda at: ":" in at.name, decayed(0.02))),
        "regulariser-scaled",
        "certain",
        "weight decay is applied though none is asked for",
    ),
    "doubled after recording": (
        Seen(STATE, when(lambda at: at.step == 0 and ":" in at.name, times(2))),
        "summed-not-averaged",
        "certain",
        "the gradient that enters every momentum is exactly 2x the recorded one",
    ),
    "counted twice": (
        Seen(STATE, when(lambda at: at.name == "step", plainly(lambda value: value + 1))),
        "adam-step-count",
        "certain",
        "is 2 after step 0, expected 1",
    ),
    "rate doubled": (
        Seen("parameters", moved(2)),
        "learning-rate-scaled",
        "certain",
        "the learning rate is 0.2, expected 0.1: it is multiplied by the world size",
    ),
    "rate of another epoch": (
        Seen("parameters", when(lambda at: at.step >= 3, moved(0.5))),
        "rate-schedule",
        "likely",
        "up to step 2 nothing differs, then every update is exactly 0.5x the reference",
    ),
    "never updated": (
        Seen("parameters", as_at_first),
        "nothing-updated",
        "certain",
        "every parameter stays as it is from step 0 on",
    ),
    "one update skipped": (
        Seen("parameters", when(lambda at: at.step == 2 and at.rank == 1, moved(0))),
        "step-skipped",
        "certain",
        "on rank 1 every parameter stays as it is in step 2",
    ),
    "frozen": (
        Seen("parameters", when(lambda at: at.step == 1 and at.name == "fixed", times(1.01))),
        "frozen-trained",
        "certain",
        "the frozen fixed moves in step 1",
    ),
    "own weights": (
        Seen("parameters", when(lambda at: at.rank == 1, times(1.01))),
        "no-broadcast",
        "certain",
        "rank 1 never received the initial weights",
    ),
    "buffers apart": (
        Seen("buffers at next forward", when(lambda at: at.step > 0 and at.rank == 1, times(1.01))),
        "buffers-not-synchronised",
        "certain",
        "on rank 1 the buffer differs at the next forward",
    ),
    "buffers updated twice": (
        Seen("buffers", updated_twice),
        "buffers-wrong",
        "certain",
        "the buffer is updated twice in step 0",
    ),
    "loss and gradients doubled": (
        Seen("loss", times(2), BEFORE),
        "loss-scaled",
        "certain",
        "loss and gradients are exactly 2x the reference in step 0",
    ),
    "a mean of means": (
        Seen("loss", when(lambda at: at.step == 2, times(1.02))),
        "mean-of-means",
        "certain",
        "the loss is 0.02 of its size away first in step 2, whose 9 samples are not shared out evenly over 2",
    ),
}


@pytest.fixture(scope="module")
def sgd(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    return Clean(tmp_path_factory.mktemp("sgd"))


@pytest.fixture(scope="module")
def adam(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    return Clean(tmp_path_factory.mktemp("adam"), adam=True)


def told(clean: Clean, tamper: Tamper, workload: Workload = SGD, num_groups: int = 2) -> Verdict:
    context = Context(workload=workload, world_size=2, num_groups=num_groups)
    return clean.verdict(clean.parallel(tamper=tamper), context=context)


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_named_by_what_it_leaves_in_the_numbers(name: str, sgd: Clean) -> None:
    tamper, cause, confidence, words = CASES[name]
    found = told(sgd, tamper).diagnosis
    assert found is not None
    assert (found.cause, found.confidence) == (cause, confidence), found.words
    assert words in found.words
    assert (found.check, found.mend) == (CAUSES[cause].check, CAUSES[cause].mend)


@pytest.mark.parametrize("rung", ["loss", BEFORE, AFTER, STATE, "parameters", "predictions"])
@pytest.mark.parametrize("size", [0.3, 1e-3])
def test_noise_has_no_cause(rung: Rung, size: float, sgd: Clean) -> None:
    verdict = told(sgd, Seen(rung, when(lambda at: at.step >= 0, noisy(size))))
    assert verdict.conclusion == "different"
    assert verdict.diagnosis is None


def test_an_equal_run_has_no_diagnosis(sgd: Clean) -> None:
    verdict = told(sgd, untouched)
    assert verdict.equivalent
    assert verdict.diagnosis is None


def test_a_run_that_differs_is_not_diagnosed_without_its_context(sgd: Clean) -> None:
    verdict = sgd.verdict(sgd.parallel(tamper=Seen(BEFORE, times(2))))
    assert verdict.conclusion == "different"
    assert verdict.diagnosis is None


def test_a_gradient_that_is_no_number_has_no_cause(sgd: Clean) -> None:
    assert told(sgd, Seen(BEFORE, times(float("nan")))).diagnosis is None


def test_where_ranks_and_micro_batches_are_as_many_a_factor_may_mean_either(sgd: Clean) -> None:
    both = msgspec.structs.replace(SGD, accumulation=2)
    found = told(sgd, Seen(BEFORE, times(2)), both).diagnosis
    assert found is not None
    assert (found.cause, found.confidence) == ("summed-not-averaged", "likely")


def test_adam_s_bias_correction_tells_the_count_that_it_used(adam: Clean) -> None:
    def as_the_first(seen: Seen, step: int, rank: int, name: str, value: Array) -> Array:
        if step != 2 or name == "fixed":
            return value
        first, second = (seen.of(STATE, step, rank, f"{kind}:{name}") for kind in ("exp_avg", "exp_avg_sq"))
        before = seen.of("parameters", step - 1, rank, name)
        return before - 0.1 * (first / (1 - 0.9**4)) / (np.sqrt(second / (1 - 0.999**4)) + 1e-8)

    found = told(adam, Seen("parameters", as_the_first), ADAM).diagnosis
    assert found is not None
    assert (found.cause, found.confidence) == ("adam-step-count", "certain")
    assert "is what Adam makes in update 4, but this is update 3" in found.words


def test_dropout_is_suspected_where_there_is_some(sgd: Clean) -> None:
    tamper = Seen("loss", when(lambda at: at.step == 0, times(1.04)))
    dropping = msgspec.structs.replace(SGD, dropout=0.2)
    assert told(sgd, tamper).diagnosis is None
    found = told(sgd, tamper, dropping).diagnosis
    assert found is not None
    assert (found.cause, found.confidence) == ("dropout-masks", "likely")


def test_pieces_on_two_ranks_are_one_gradient(sgd: Clean, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", tamper=Seen(BEFORE, times(2)))[0]

    def halves(rung: Rung, name: str, shape: tuple[int, ...]) -> list[tuple[int, slice | None]]:
        size = int(np.prod(shape))
        if rung != BEFORE or size < 2:
            return [(0, None)]
        return [(0, slice(0, size // 2)), (1, slice(size // 2, size))]

    pieces = spread(whole, tmp_path / "pieces", halves)
    found = sgd.verdict(pieces, context=Context(workload=SGD, world_size=2, num_groups=2)).diagnosis
    assert found is not None
    assert found.words == "every gradient is exactly 2x the reference: summed over 2 ranks instead of averaged"


def test_samples_of_another_rank_are_told(sgd: Clean) -> None:
    def same(seen: Seen, step: int, rank: int, name: str, value: Array) -> Array:
        return seen.of("data order", step, 0, name)

    found = told(sgd, Seen("data order", same)).diagnosis
    assert found is not None
    assert (found.cause, found.confidence) == ("wrong-samples", "certain")
    assert found.words.startswith("rank 1 trains the samples of rank 0")


def test_a_first_rate_of_zero_hides_no_scaled_rate(sgd: Clean) -> None:
    warm = msgspec.structs.replace(SGD, schedule=Schedule(warmup=1))
    late = Seen("parameters", when(lambda at: at.step >= 3, moved(2)))
    found = told(sgd, late, warm).diagnosis
    assert found is not None
    assert found.cause == "learning-rate-scaled"


def test_every_cause_that_a_rule_names_says_how_to_check_and_mend_it() -> None:
    assert len(_registry.all()) > 20
    for name, cause in CAUSES.items():
        assert name == name.lower()
        assert cause.check
        assert cause.mend


def test_a_diagnosis_can_be_stored(sgd: Clean) -> None:
    found = told(sgd, Seen(BEFORE, times(2))).diagnosis
    assert found is not None
    assert msgspec.json.decode(msgspec.json.encode(found), type=Diagnosis) == found


@pytest.mark.parametrize("rung", [rung for rung in LADDER if rung not in ("data order", "activations")])
@pytest.mark.parametrize("value", [0.0, float("nan"), 1e300, -1.0, 1e-300])
@pytest.mark.parametrize("name", ["", "two.bias"])
def test_no_number_keeps_a_difference_from_being_told(rung: Rung, value: float, name: str, sgd: Clean) -> None:
    struck = Seen(rung, when(lambda at: at.step != 1 and name in at.name, plainly(lambda old: 0 * old + value)))
    verdict = told(sgd, struck)
    assert verdict.diagnosis is None or verdict.conclusion == "different"
