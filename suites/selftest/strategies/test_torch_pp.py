"""What the names of the strategies of torch.distributed.pipelining may choose, and what is refused; no rank starts."""

from __future__ import annotations

import re

import pytest

from harness import Case, Workload, jobs, support, workloads
from harness.errors import SpecError
from harness.spec import Check
from harness.strategies import base

base.discover()
RESIZED = Workload(name="own", model="mlp", dataset="digits", check=Check(resume_at=2, resume_ranks=7))
TO_ONE = Workload(name="own", model="mlp", dataset="digits", check=Check(resume_at=2, resume_ranks=1))
UNCUT = Workload(name="own", model="mlp", model_options={"depth": 1}, dataset="digits")


def refused(name: str, workload: Workload, world_size: int) -> str:
    with pytest.raises(SpecError) as caught:
        jobs.validate(Case(workload=workload.name, strategy=name, world_size=world_size), workload, base.get(name))
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "variant"),
    [(name, variant) for name in ("torch-pp", "torch-ddp-pp") for variant in base.get(name).variants],
)
def test_every_variant_can_train_what_it_is_tried_on_at_every_world_size(name: str, variant: str) -> None:
    strategy = base.get(f"{name}+{variant}")
    for own in base.get(name).variants[variant] or ("digits-mlp",):
        assert support.limit(workloads.get(own), strategy) is None
        for size in strategy.world_sizes:
            if "interleaved" in variant and size == 1:
                continue  # refused below
            case = Case(workload=own, strategy=strategy.name, world_size=size)
            jobs.validate(case, workloads.get(own), strategy)


@pytest.mark.parametrize(
    ("name", "workload", "world_size", "said"),
    [
        ("torch-pp", workloads.get("digits-mlp"), 7, "6 layers for 7 stages; use fewer ranks, or a model that is"),
        ("torch-pp+schedule=interleaved", UNCUT, 3, "the model has 4 layers for 6 stages"),
        (
            "torch-pp+schedule=interleaved",
            workloads.get("digits-mlp"),
            1,
            "at least 2 ranks for schedule 'interleaved'",
        ),
        (
            "torch-pp+schedule=interleaved",
            TO_ONE,
            2,
            "cannot predict .torch 2.15: .can't steal_bwd_input if this stage",
        ),
        ("torch-pp+balance=3-4", workloads.get("digits-mlp"), 2, "2 numbers that add up to the 6 layers"),
        ("torch-pp+balance=3-3", workloads.get("digits-mlp"), 3, "3 numbers that add up to the 6 layers"),
        ("torch-pp+chunks=33", workloads.get("digits-mlp"), 2, "expected at least 1 sample"),
        ("torch-pp+chunks=-2", workloads.get("digits-mlp"), 2, "expected chunks of schedule 'gpipe' to be >= 1"),
        ("torch-pp+schedule=1f1b+chunks=2", workloads.get("digits-mlp"), 4, "'1f1b' to be >= 4 .ranks. but got 2"),
        ("torch-pp+schedule=zigzag", workloads.get("digits-mlp"), 2, "among gpipe, 1f1b, interleaved but got 'zigzag'"),
        ("torch-pp+chunks=5", workloads.get("digits-batchnorm-even"), 2, "to be a multiple of 5 .* see the padding"),
        ("torch-pp", workloads.get("digits-mnist-cnn"), 2, "a batch norm sees the padding"),
        ("torch-pp", RESIZED, 2, "6 layers for 7 stages"),
        ("torch-ddp-pp+stages=3", workloads.get("digits-mlp"), 4, "divides the 4 ranks but got stages=3"),
        ("torch-ddp-pp+stages=8", workloads.get("digits-mlp"), 4, "divides the 4 ranks but got stages=8"),
        ("torch-ddp-pp+stages=-2", workloads.get("digits-mlp"), 4, "divides the 4 ranks but got stages=-2"),
        ("torch-ddp-pp+balance=1-2", workloads.get("digits-mlp"), 4, "2 numbers that add up to the 6 layers"),
        ("torch-ddp-pp", workloads.get("digits-batchnorm-even"), 4, "there is no reference that does both"),
        ("torch-ddp-pp", workloads.get("digits-routed-mlp"), 4, "DDP waits for the gradient of a parameter"),
        ("torch-ddp-pp", RESIZED, 4, "6 layers for 7 stages"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_rank_starts(
    name: str, workload: Workload, world_size: int, said: str
) -> None:
    assert re.search(said, refused(name, workload, world_size))


@pytest.mark.parametrize(("world_size", "pieces"), [(2, 2), (3, 3), (4, 4), (8, 8)])
def test_ranks_are_pipelines_of_two_stages_or_one_pipeline_of_all(world_size: int, pieces: int) -> None:
    strategy = base.get("torch-ddp-pp")
    assert strategy.groups(world_size, strategy.chosen) == pieces
    chosen = base.get("torch-ddp-pp+chunks=6").chosen
    assert strategy.groups(4, chosen) == 12


def test_an_even_batch_norm_is_judged_against_a_reference_by_micro_batch() -> None:
    even = workloads.get("digits-batchnorm-even")
    assert support.promise(even, base.get("torch-pp"), 2) == "reference:per-micro-batch-batchnorm"
    references = jobs.references(even, base.get("torch-pp+chunks=4"), 2)
    assert (references.run.shards, references.run.batchnorm) == (4, "per-micro-batch")
