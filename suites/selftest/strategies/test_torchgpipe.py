"""What the name of a torchgpipe strategy may choose, what that changes, and what is refused; no rank starts."""

from __future__ import annotations

import re

import msgspec
import pytest

from harness import Case, jobs, support, workloads
from harness.errors import SpecError
from harness.strategies import base

base.discover()


@pytest.mark.parametrize(
    ("chosen", "world_size", "said"),
    [
        ("", 7, "the model has 6 layers for 7 stages"),
        ("+balance=3-4", 2, "2 numbers that add up to the 6 layers of model 'mlp' but got '3-4'"),
        ("+balance=3", 2, "which are 1 that add up to 3"),
        ("+balance=a-b", 2, "expected balance to be numbers of layers >= 1, as in '3-4', but got 'a-b'"),
        ("+chunks=-1", 2, "expected chunks to be >= 1, or 0 for one per device, but got -1"),
        (
            "+chunks=40",
            2,
            r"expected chunks to be at most the 27 sample\(s\) of the smallest micro-batch .* but got 40",
        ),
        ("+checkpoint=sometimes", 2, "among never, always, except_last but got 'sometimes'"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_rank_starts(chosen: str, world_size: int, said: str) -> None:
    workload, name = workloads.get("digits-mlp"), f"torchgpipe{chosen}"
    with pytest.raises(SpecError) as caught:
        jobs.validate(Case(workload=workload.name, strategy=name, world_size=world_size), workload, base.get(name))
    assert re.search(said, str(caught.value))


def test_a_batch_of_fewer_micro_batches_than_deferred_statistics_wait_for_is_refused() -> None:
    workload, strategy = workloads.get("digits-mnist-cnn"), base.get("torchgpipe+deferred-batch-norm+chunks=4")
    check = msgspec.structs.replace(workload.check, global_batch=12, num_samples=33)
    uneven = msgspec.structs.replace(workload, global_batch=12, check=check)
    case = Case(workload=workload.name, strategy=strategy.name, world_size=2)
    with pytest.raises(SpecError, match="to make 4 micro-batches but 9 samples make 3"):
        jobs.validate(case, uneven, strategy)
    jobs.validate(case, uneven, base.get("torchgpipe+chunks=4"))


def test_tied_weights_are_refused_in_the_librarys_own_words() -> None:
    limit = support.limit(workloads.get("digits-tied-mlp"), base.get("torchgpipe"))
    assert "duplicate parameters in distinct children" in (limit or "")


@pytest.mark.parametrize(
    ("chosen", "promise"),
    [
        ("", "reference:per-micro-batch-batchnorm"),
        ("+deferred-batch-norm", "reference:deferred-batchnorm"),
        ("+checkpoint=always+deferred-batch-norm", "reference:deferred-batchnorm"),
        ("+checkpoint=except_last", "finding: buffers: a checkpointed forward runs again"),
    ],
)
def test_whose_statistics_a_batch_norm_keeps_follows_from_the_options(chosen: str, promise: str) -> None:
    strategy = base.get(f"torchgpipe{chosen}")
    assert support.promise(workloads.get("digits-mnist-cnn"), strategy, 2).startswith(promise)


def test_autocast_outside_the_layers_is_known_to_be_lost() -> None:
    workload = workloads.get("digits-mlp-bf16")
    assert support.promise(workload, base.get("torchgpipe"), 2) == "exact"
    assert "threads of its own" in support.promise(workload, base.get("torchgpipe+autocast=outside"), 2)


def test_micro_batches_are_as_many_as_devices_unless_chosen() -> None:
    strategy = base.get("torchgpipe")
    assert strategy.groups(3, strategy.chosen) == 3
    assert strategy.groups(3, base.get("torchgpipe+chunks=8").chosen) == 8
