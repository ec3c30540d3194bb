"""What the sharding strategies declare, and what they refuse before any rank starts."""

from __future__ import annotations

import msgspec
import pytest

from harness import Case, jobs, workloads
from harness.errors import SpecError
from harness.strategies import base
from harness.support import promise

base.discover()
NAMES = ("torch-zero1", "torch-fsdp", "torch-hsdp", "torch-tp", "torch-fsdp-tp")


def validate(name: str, workload: str, world_size: int) -> None:
    case = Case(workload=workload, strategy=name, world_size=world_size)
    jobs.validate(case, workloads.get(workload), base.get(name))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_sharding_strategy_promises_it_can_start(name: str) -> None:
    for declared in (base.get(name), *base.variants(base.get(name)).values()):
        for world_size in declared.world_sizes:
            validate(declared.name, "digits-mlp", world_size)


@pytest.mark.parametrize(
    ("name", "workload", "world_size", "said"),
    [
        ("torch-fsdp+reshard=pairs", "digits-mlp", 3, r"an even number of ranks with reshard=pairs but got 3"),
        ("torch-fsdp+reshard=pairs", "digits-mlp-resized", 4, r"an even number of ranks with reshard=pairs but got 3"),
        ("torch-hsdp", "digits-mlp", 3, r"a multiple of replicas=2 ranks but got 3"),
        ("torch-hsdp+replicas=0", "digits-mlp", 2, r"a multiple of replicas=0 ranks but got 2"),
        (
            "torch-tp",
            "digits-transformer",
            3,
            r"divides the 4 heads of 'block1' in workload 'digits-transformer' but got 3",
        ),
        ("torch-fsdp-tp", "digits-mlp", 3, r"a multiple of tp=2 ranks but got 3"),
        ("torch-fsdp-tp+tp=0", "digits-mlp", 4, r"a multiple of tp=0 ranks but got 4"),
        ("torch-fsdp-tp+tp=3", "digits-transformer", 3, r"divides the 4 heads of 'block1'"),
        ("torch-fsdp", "digits-routed-mlp", 2, r"does not support this: .*doesn't match expected size.*find-unused"),
        (
            "torch-fsdp-tp",
            "digits-mlp-fp16",
            4,
            r"does not support this: GradScaler .* only along the mesh of the first",
        ),
        ("torch-zero1", "digits-routed-mlp", 2, r"does not support this: a forward must use every parameter"),
    ],
)
def test_what_cannot_be_sharded_is_refused_before_any_rank_starts(
    name: str, workload: str, world_size: int, said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        validate(name, workload, world_size)


def test_a_loss_scaler_that_cannot_take_whole_gradients_beside_pieces_is_refused() -> None:
    mixed = msgspec.structs.replace(workloads.get("digits-mlp-fp16"), name="mixed", model="simple-cnn")
    with pytest.raises(SpecError, match=r"untied dense layers but workload 'mixed' has others"):
        jobs.validate(Case(workload="mixed", strategy="torch-tp", world_size=2), mixed, base.get("torch-tp"))
    validate("torch-tp", "digits-mlp-fp16", 2)


def test_ranks_that_see_the_same_samples_normalise_them_alike() -> None:
    normalising = workloads.get("digits-mnist-cnn")
    assert promise(normalising, base.get("torch-tp"), 2) == "exact"
    assert promise(normalising, base.get("torch-fsdp-tp"), 4) == "reference:per-shard-batchnorm"
    assert jobs.references(normalising, base.get("torch-fsdp-tp"), 4).run.shards == 2
    assert jobs.references(normalising, base.get("torch-hsdp"), 4).run.shards == 4


def test_what_is_resumed_on_other_ranks_has_the_groups_that_they_make() -> None:
    mesh = base.get("torch-fsdp-tp")
    assert [mesh.groups(size, mesh.chosen) for size in (1, 2, 3, 4)] == [1, 1, 3, 2]


def test_a_gradient_of_zero_for_what_nobody_uses_is_a_known_finding() -> None:
    routed = workloads.get("digits-routed-mlp")
    for name in ("torch-fsdp", "torch-hsdp", "torch-fsdp-tp"):
        assert promise(routed, base.get(name), 4).startswith("not supported: a rank leaves")
        assert promise(routed, base.get(f"{name}+find-unused"), 4).startswith(
            "finding: optimizer state: what no sample"
        )


def test_low_precision_is_judged_statistically() -> None:
    assert promise(workloads.get("digits-mlp"), base.get("torch-fsdp+precision=bf16"), 2) == "statistical"
