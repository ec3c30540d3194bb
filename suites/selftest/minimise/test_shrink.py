"""Delta debugging, with a judge in place of trainings: what a difference needs stays, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from harness import Case, Verdict, Workload, workloads
from harness.errors import RankError, SpecError, UsageError
from harness.features import features
from harness.minimise.reductions import REDUCTIONS
from harness.minimise.shrink import Minimised, difference, divergence, shrink
from harness.models import base as models
from harness.record import Divergence, Rung
from harness.spec import Fault
from harness.strategies import base as strategies

Needs = Callable[[Case, Workload], bool]


@pytest.fixture(autouse=True)
def _discovered() -> None:
    strategies.discover()


def verdict(conclusion: str, rung: Rung = "loss", step: int = 0) -> Verdict:
    where = Divergence(rung=rung, step=step, rank=0, tensor="loss", observed=1.0, floor=0.0, threshold=0.0)
    found = where if conclusion == "different" else None
    return Verdict(conclusion=conclusion, reason="as said", divergence=found)  # type: ignore[arg-type]


def minimised(needs: Needs, workload: str = "digits-cnn-adamw-clipped", strategy: str = "torch-ddp") -> Minimised:
    """Shrink a case of three ranks that differs as long as it has what a test says."""

    def judge(case: Case, trained: Workload, fault: Fault | None) -> Verdict:
        return verdict("different" if needs(case, trained) else "equivalent")

    case = Case(workload=workload, strategy=strategy, world_size=3)
    return shrink(case, workloads.get(workload), None, judge)


def neighbours(found: Minimised) -> Iterator[tuple[Case, Workload]]:
    """Yield every case that is one reduction smaller."""
    for reduce in REDUCTIONS:
        for candidate in reduce(found.case, found.workload, divergence(found.verdict)):
            yield candidate.case, candidate.workload


def possible(case: Case, workload: Workload) -> bool:
    from harness import jobs

    try:
        jobs.validate(case, workload, strategies.get(case.strategy))
    except UsageError:
        return False
    return True


def test_a_difference_that_needs_nothing_is_told_by_two_ranks_two_samples_and_one_layer() -> None:
    found = minimised(lambda _case, _workload: True)
    check = found.workload.check
    assert (found.case.world_size, check.num_steps, check.num_samples, check.global_batch) == (2, 1, 2, 2)
    assert features(found.workload) == ("sgd",)
    assert len(models.parameters(models.layers(found.workload))) == 2
    assert (found.workload.shape, found.workload.num_classes) == ((1, 1, 1), 2)
    assert found.finished


@pytest.mark.parametrize("needed", ["clip-norm", "dropout", "adamw", "exponential-schedule", "uneven-batch"])
def test_a_feature_that_the_difference_needs_is_the_only_one_that_stays(needed: str) -> None:
    found = minimised(lambda _case, workload: needed in features(workload))
    assert set(features(found.workload)) - {"sgd"} == {needed}


def test_two_features_that_only_differ_together_stay_together() -> None:
    found = minimised(
        lambda _case, workload: {"accumulation", "nesterov"} <= set(features(workload)), "digits-cnn-accumulated"
    )
    assert set(features(found.workload)) == {"accumulation", "nesterov"}
    assert found.workload.check.num_samples >= 2 * found.workload.accumulation


def test_layers_are_taken_out_one_by_one_where_no_small_model_will_do() -> None:
    def needs(case: Case, workload: Workload) -> bool:
        kinds = [type(layer).__name__ for layer in models.layers(workload)]
        return kinds.count("Conv") >= 2 and "MaxPool" in kinds

    found = minimised(needs)
    kinds = [type(layer).__name__ for layer in models.layers(found.workload)]
    assert sorted(kinds) == ["Conv", "Conv", "Dense", "Flatten", "MaxPool"]
    assert "conv1-" in str(found.workload.model_options["layers"])


def test_a_batch_norm_that_the_difference_needs_ends_up_in_a_model_of_three_layers() -> None:
    found = minimised(
        lambda _case, workload: models.has_batchnorm(models.layers(workload)), workload="digits-mnist-cnn"
    )
    assert found.workload.model_options == {"layers": "flatten-bn-dense"}
    # A batch norm wants two samples of each rank.
    assert found.workload.check.num_samples == 4


def test_a_network_of_modules_is_made_narrower() -> None:
    found = minimised(
        lambda _case, workload: models.has_blocks(models.layers(workload)), workload="digits-resnet18-narrow"
    )
    assert found.workload.model == "resnet18"
    assert found.workload.model_options["width"] == 1


def test_as_many_ranks_steps_and_samples_stay_as_the_difference_needs() -> None:
    def needs(case: Case, workload: Workload) -> bool:
        return case.world_size >= 3 and workload.check.num_steps >= 4 and workload.check.num_samples > 7

    found = minimised(needs)
    check = found.workload.check
    assert (found.case.world_size, check.num_steps, check.num_samples) == (3, 6, 8)


def test_steps_after_the_one_that_differs_go_at_once() -> None:
    def judge(case: Case, workload: Workload, fault: Fault | None) -> Verdict:
        return verdict("different" if workload.check.num_steps >= 5 else "equivalent", step=4)

    case = Case(workload="digits-mlp", strategy="torch-ddp", world_size=2)
    found = shrink(case, workloads.get("digits-mlp"), None, judge)
    assert found.workload.check.num_steps == 5


def test_another_difference_is_not_followed() -> None:
    def judge(case: Case, workload: Workload, fault: Fault | None) -> Verdict:
        return verdict("different", "gradients after clipping" if workload.clip_norm else "loss")

    case = Case(workload="digits-cnn-adamw-clipped", strategy="torch-ddp", world_size=2)
    found = shrink(case, workloads.get(case.workload), None, judge)
    assert found.workload.clip_norm is not None
    assert difference(found.verdict) == ("plain", "gradients after clipping")


def test_options_of_a_strategy_that_the_difference_does_not_need_go() -> None:
    name = "torch-ddp+bucket-mb=0.001+gradient-as-bucket-view"
    found = minimised(lambda case, _workload: "bucket-mb" in case.strategy, strategy=name)
    assert found.case.strategy == "torch-ddp+bucket-mb=0.001"


def test_nothing_more_can_go() -> None:
    def needs(case: Case, workload: Workload) -> bool:
        return {"momentum", "clip-value"} <= set(features(workload)) or workload.accumulation == 4

    found = minimised(needs, workload="digits-mlp-adam")
    left = [pair for pair in neighbours(found) if possible(*pair) and needs(*pair)]
    assert left == []


def test_a_case_whose_ranks_fail_is_none_that_differs() -> None:
    def judge(case: Case, workload: Workload, fault: Fault | None) -> Verdict:
        if workload.dataset == "synthetic":
            raise RankError("rank 0 died")
        return verdict("different")

    case = Case(workload="digits-mlp", strategy="torch-ddp", world_size=2)
    found = shrink(case, workloads.get(case.workload), None, judge)
    assert found.workload.dataset == "digits"


def test_an_equal_case_has_nothing_to_minimise() -> None:
    with pytest.raises(SpecError, match="expected a case that differs but got digits-mlp/torch-ddp/3/cpu"):
        minimised(lambda _case, _workload: False, workload="digits-mlp")


def test_a_search_whose_time_is_up_tells_what_it_has() -> None:
    case = Case(workload="digits-mlp", strategy="torch-ddp", world_size=3)
    found = shrink(case, workloads.get("digits-mlp"), None, lambda *_asked: verdict("different"), limit_s=0.0)
    assert not found.finished
    assert found.case.world_size == 3
