"""What the name of a torch-ddp strategy may choose, and what it changes; no rank starts."""

from __future__ import annotations

import re

import pytest

from harness import Case, jobs, support, workloads
from harness.errors import SpecError
from harness.strategies import base

base.discover()


def refused(name: str, workload: str) -> str:
    case = Case(workload=workload, strategy=name, world_size=2)
    with pytest.raises(SpecError) as caught:
        jobs.validate(case, workloads.get(workload), base.get(name))
    return str(caught.value)


@pytest.mark.parametrize("variant", base.get("torch-ddp").variants)
def test_every_variant_can_train_what_it_is_tried_on(variant: str) -> None:
    strategy = base.get(f"torch-ddp+{variant}")
    device = next(iter(strategy.backends))
    for name in base.get("torch-ddp").variants[variant] or ("digits-mlp",):
        jobs.validate(
            Case(workload=name, strategy=strategy.name, world_size=2, device=device), workloads.get(name), strategy
        )


@pytest.mark.parametrize(
    ("chosen", "workload", "said"),
    [
        ("bucket-mb=0", "digits-mlp", "expected buckets above 0 MiB but got bucket-mb=0.0"),
        ("bucket-mb=nan", "digits-mlp", "expected buckets above 0 MiB but got bucket-mb=nan"),
        ("powersgd-rank=0", "digits-mlp", "expected powersgd-rank of at least 1 but got 0"),
        ("static-graph+find-unused", "digits-mlp", "expected static-graph or find-unused but got both"),
        ("static-graph", "digits-cnn-accumulated", "internal assertion .* add no-sync=false"),
        ("hook=fp8", "digits-mlp", "expected option 'hook' of strategy 'torch-ddp' among none, fp16, bf16, powersgd"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_rank_starts(chosen: str, workload: str, said: str) -> None:
    assert re.search(said, refused(f"torch-ddp+{chosen}", workload))


def test_parameters_that_a_rank_does_not_use_need_find_unused() -> None:
    routed = workloads.get("digits-routed-mlp")
    assert "choose find-unused" in (support.limit(routed, base.get("torch-ddp")) or "")
    assert support.limit(routed, base.get("torch-ddp+find-unused")) is None
    assert "choose find-unused" in (support.limit(routed, base.get("torch-ddp+static-graph")) or "")


def test_synchronised_batch_norm_is_plain_mathematics_on_gpus_only() -> None:
    strategy = base.get("torch-ddp+sync-batch-norm")
    assert list(strategy.backends) == ["cuda"]
    assert strategy.batchnorm == "plain"
    assert "only work with GPU modules" in refused("torch-ddp+sync-batch-norm", "digits-mnist-cnn")


def test_compressed_gradients_are_judged_by_statistics() -> None:
    assert {base.get(f"torch-ddp+hook={hook}").equality for hook in ("fp16", "bf16", "powersgd")} == {"statistical"}
    assert base.get("torch-ddp").equality == "exact"


def test_running_statistics_that_nobody_broadcasts_are_a_known_difference_with_batch_norm_only() -> None:
    strategy = base.get("torch-ddp+broadcast-buffers=false")
    assert support.finding(workloads.get("digits-mlp"), strategy) is None
    assert "running statistics of its own samples" in (
        support.finding(workloads.get("digits-mnist-cnn"), strategy) or ""
    )
