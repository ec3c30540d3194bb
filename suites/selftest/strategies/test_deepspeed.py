from __future__ import annotations

import msgspec
import pytest

from harness import workloads
from harness.errors import SpecError
from harness.jobs import validate
from harness.spec import Case, Check, Job, Leg, Optimizer, Workload
from harness.strategies import base as strategies
from harness.strategies.deepspeed_settings import configuration
from harness.support import finding, limit

strategies.discover()
SHARDED = ("deepspeed-zero1", "deepspeed-zero2", "deepspeed-zero3")
ADAM = Optimizer(name="adam", learning_rate=1e-3)


def job(workload: Workload, name: str, **settings: object) -> Job:
    strategy = strategies.get(name)
    described = Job(
        function=strategy.function, strategy=name, workload=workload, world_size=2, options=dict(strategy.chosen)
    )
    return msgspec.structs.replace(described, **settings)


def test_the_configuration_says_everything_that_decides_what_is_computed() -> None:
    workload = workloads.get("digits-cnn-adamw-clipped")
    assert configuration(job(workload, "deepspeed-zero2"), 2) == {
        "train_micro_batch_size_per_gpu": 16,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.5,
        "zero_optimization": {
            "stage": 2,
            "reduce_bucket_size": 500_000_000,
            "overlap_comm": False,
            "reduce_scatter": True,
        },
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
    }


def test_the_options_of_a_name_reach_the_configuration() -> None:
    name = "deepspeed-zero3+bucket=1000+overlap+scatter=false"
    assert configuration(job(workloads.get("digits-mlp"), name), 3)["zero_optimization"] == {
        "stage": 3,
        "reduce_bucket_size": 1000,
        "overlap_comm": True,
        "reduce_scatter": False,
        "stage3_param_persistence_threshold": 0,
    }


def test_stage_0_has_nothing_to_choose() -> None:
    found = configuration(job(workloads.get("digits-mlp-bf16"), "deepspeed-zero0"), 0)
    assert found["zero_optimization"] == {"stage": 0}
    assert found["torch_autocast"] == {"enabled": True, "dtype": "bfloat16"}


@pytest.mark.parametrize("stage", [0, 2])
def test_only_pieces_that_are_read_by_another_number_of_ranks_are_made_universal(stage: int) -> None:
    workload = Workload(
        name="adam-resized", model="mlp", dataset="digits", optimizer=ADAM, check=Check(resume_at=2, resume_ranks=3)
    )
    leg = Leg(first=2, last=6, load="somewhere")
    found = configuration(job(workload, f"deepspeed-zero{stage}", leg=leg), stage)
    assert found["checkpoint"] == {"load_universal": stage > 0}
    assert "checkpoint" not in configuration(job(workload, f"deepspeed-zero{stage}"), stage)


@pytest.mark.parametrize("name", SHARDED)
def test_pieces_of_sgd_cannot_be_cut_anew_but_those_of_adam_can(name: str) -> None:
    strategy, resized = strategies.get(name), workloads.get("digits-mlp-resized")
    assert "'exp_avg'" in (limit(resized, strategy) or "")
    assert limit(msgspec.structs.replace(resized, optimizer=ADAM), strategy) is None
    assert limit(resized, strategies.get("deepspeed-zero0")) is None


@pytest.mark.parametrize("name", SHARDED)
def test_a_bucket_that_holds_nothing_is_refused_before_any_rank_starts(name: str) -> None:
    case = Case(workload="digits-mlp", strategy=f"{name}+bucket=0", world_size=2)
    with pytest.raises(SpecError, match=r"option 'bucket' to be a number of elements >= 1 but got 0"):
        validate(case, workloads.get("digits-mlp"), strategies.get(case.strategy))


def test_clipping_under_a_loss_scale_is_a_finding_of_the_stages_that_shard() -> None:
    workload = msgspec.structs.replace(workloads.get("digits-mlp-fp16"), clip_norm=0.1)
    assert finding(workload, strategies.get("deepspeed-zero0")) is None
    assert all("loss scale" in (finding(workload, strategies.get(name)) or "") for name in SHARDED)
