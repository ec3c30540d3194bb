from __future__ import annotations

import msgspec
import pytest

from harness import jobs, matrix, support, workloads
from harness.cases import Selection, offers
from harness.errors import SpecError
from harness.features import FEATURES, features
from harness.spec import Case, Check
from harness.strategies import base as strategies

MLP = workloads.get("digits-mlp")
DDP = strategies.get("torch-ddp")


def changed(**changes: object) -> strategies.Strategy:
    import dataclasses

    return dataclasses.replace(DDP, **changes)  # type: ignore[arg-type]


def test_a_limit_stands_for_one_feature_or_for_several_together() -> None:
    limited = changed(limits={"momentum+uneven-batch": "why", "adam": "other"})
    assert support.limit(MLP, limited) == "why"
    even = msgspec.structs.replace(MLP, check=Check(num_samples=64, global_batch=32))
    assert support.limit(even, limited) is None
    assert support.together(limited) == {"momentum+uneven-batch": "not supported: why"}


def test_a_promise_says_what_is_kept() -> None:
    batch_norm = workloads.get("digits-mnist-cnn")
    assert support.promise(MLP, DDP, 2) == "exact"
    assert support.promise(batch_norm, DDP, 2) == "reference:per-shard-batchnorm"
    assert support.promise(batch_norm, DDP, 1) == "exact"
    assert support.promise(MLP, changed(equality="statistical"), 2) == "statistical"
    assert support.promise(MLP, changed(findings={"momentum": "loss: wrong"}), 2) == "finding: loss: wrong"
    assert support.promise(MLP, changed(limits={"momentum": "cannot"}), 2) == "not supported: cannot"


def test_no_reference_exists_where_batch_norm_meets_another_number_of_ranks() -> None:
    resized = msgspec.structs.replace(workloads.get("digits-mnist-cnn"), check=Check(resume_at=2, resume_ranks=3))
    assert "there is no reference" in (support.limit(resized, DDP) or "")


def test_the_matrix_has_a_cell_for_every_strategy_feature_device_and_world_size() -> None:
    cells = list(matrix.cells())
    expected = sum(len(strategy.world_sizes) for strategy in matrix.rows()) * len(FEATURES) * 2
    assert len(cells) == expected
    assert len({(c.strategy, c.feature, c.device, c.world_size) for c in cells}) == expected
    assert {cell.promise.partition(":")[0] for cell in cells} <= set(matrix.SIGNS)


def test_a_promise_for_the_cpu_is_tried_by_a_case_of_the_full_scale() -> None:
    tried: dict[str, set[str]] = {}
    for offer in offers(Selection(scale="full", devices=("cpu",)), "conformance"):
        if not (offer.lacks or "").startswith("not supported"):
            tried.setdefault(offer.strategy.name, set()).update(features(offer.workload))
    for declared in strategies.strategies().values():
        if declared.serial or "cpu" not in declared.backends:
            continue
        promised = {
            feature
            for feature in FEATURES
            if not support.cell(feature, declared, max(declared.world_sizes), "cpu").startswith("not supported")
        }
        untried = promised - tried[declared.name]
        assert not untried, f"{declared.name} promises {sorted(untried)}, which no workload tries"


@pytest.mark.parametrize("strategy", [s for s in matrix.rows() if "cpu" in s.backends], ids=lambda s: s.name)
def test_every_strategy_runs_unasked_on_the_cpu(strategy: strategies.Strategy) -> None:
    everyday = {offer.strategy.name for offer in offers(Selection(devices=("cpu",)), "conformance")}
    assert strategy.name in everyday


def test_a_finding_may_hold_everywhere() -> None:
    broken = changed(findings={"*": "parameters: never synchronised"})
    assert support.finding(MLP, broken) == "parameters: never synchronised"
    able = [feature for feature in FEATURES if feature not in broken.limits]
    assert {support.cell(feature, broken, 2, "cpu") for feature in able} == {"finding: parameters: never synchronised"}


def test_a_finding_names_the_rung_where_it_shows() -> None:
    with pytest.raises(SpecError, match=r"expected rungs of findings among data order, .* but got 'wrong'"):
        changed(findings={"momentum": "wrong"})


def test_resuming_ranks_are_refused_like_any_others() -> None:
    crowd = msgspec.structs.replace(MLP, check=Check(resume_at=2, resume_ranks=64))
    with pytest.raises(SpecError, match="expected at least 1 sample"):
        jobs.validate(Case(workload="digits-mlp", strategy="torch-ddp", world_size=2), crowd, DDP)


def test_a_training_needs_a_layer_that_is_trained() -> None:
    frozen = msgspec.structs.replace(MLP, frozen=("dense1", "dense2", "dense3"))
    with pytest.raises(SpecError, match="expected a layer of model 'mlp' that is trained but all are frozen"):
        features(frozen)
