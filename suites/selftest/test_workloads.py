"""The workloads that ship, and the user's own."""

from __future__ import annotations

import re

import msgspec
import pytest

from harness import plan, workloads
from harness.datasets import base as datasets
from harness.errors import DuplicateNameError, UnknownNameError
from harness.models import base as models
from harness.spec import Workload


def mine() -> Workload:
    return Workload(name="mine", model="mlp", dataset="synthetic")


def mine_again() -> Workload:
    return Workload(name="mine", model="mlp", dataset="digits")


@pytest.mark.parametrize("name", workloads.workloads())
def test_a_shipped_workload_names_a_known_model_and_dataset_and_checks_two_to_four_ranks(name: str) -> None:
    declared = workloads.workloads()[name]
    assert re.fullmatch(r"[a-z0-9-]+", name)
    assert declared.workload.dataset in datasets.registry.known()
    described = models.layers(declared.workload)
    for world_size in (2, 3, 4):
        minimum = 2 if models.has_batchnorm(described) else 1
        plan.require_samples_for_all(declared.workload, world_size, "balanced", minimum)


def test_the_shipped_checks_hold_what_hides_bugs_before_the_last_step() -> None:
    """An uneven batch, an epoch boundary, momentum; somewhere accumulation, a schedule, clipping, dropout, AdamW."""
    shipped = [declared.workload for declared in workloads.workloads().values()]
    for workload in shipped:
        steps = list(plan.check_steps(workload))
        even = workload.name == "digits-batchnorm-even"  # what pipelines can train without padding
        assert (len({step.size for step in steps[:-1]}) == 1) == even, "an uneven batch"
        assert len({step.epoch for step in steps[:-1]}) > 1, "an epoch boundary"
    assert any(len({step.learning_rate for step in list(plan.check_steps(w))[:-1]}) > 1 for w in shipped)
    assert {w.optimizer.name for w in shipped} >= {"sgd", "adamw"}
    assert any(w.accumulation > 1 for w in shipped)
    assert any(w.clip_norm is not None for w in shipped)
    assert any(w.dropout and w.augment != "none" for w in shipped)
    assert any(w.optimizer.name == "adamw" and w.clip_norm is None for w in shipped), "clipping hides scale errors"


def test_only_what_needs_no_download_is_everyday() -> None:
    for declared in workloads.workloads().values():
        assert declared.needs_data == (declared.workload.dataset == "mnist")


def test_every_setting_changes_the_digest() -> None:
    first = mine()
    changes = {"seed": 1, "global_batch": 32, "clip_norm": 1.0, "dropout": 0.1, "model": "simple-cnn"}
    digests = {msgspec.structs.replace(first, **{name: value}).digest for name, value in changes.items()}
    assert len(digests | {first.digest}) == len(changes) + 1


def test_a_users_workload_is_found_by_name() -> None:
    with workloads._registry.passing():
        assert workloads.workload("smoke")(mine) is mine
        assert workloads.get("mine") == mine()
        assert workloads.workloads()["mine"].suites == ("smoke",)
        assert workloads.workloads()["mine"].where.startswith(f"{__file__}:")
    with pytest.raises(UnknownNameError, match="unknown workload 'mine'"):
        workloads.get("mine")


def test_two_workloads_of_one_name_are_refused_naming_both_places() -> None:
    with workloads._registry.passing():
        workloads.workload()(mine)
        with pytest.raises(DuplicateNameError, match=r"workload 'mine': .*test_workloads.py:\d+ and .*:\d+; rename"):
            workloads.workload()(mine_again)
        assert workloads.get("mine") == mine()
