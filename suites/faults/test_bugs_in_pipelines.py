"""What the bugs of every strategy do not cover in pipelines: their other schedules, replicas of them, odd stages."""

from __future__ import annotations

import msgspec
import pytest
from wrong_strategies import judged

from harness import Workload, workloads
from harness.runner import Runner
from harness.spec import Check, Optimizer

pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]
ADAMW = Optimizer(name="adamw", learning_rate=1e-3, weight_decay=1e-2)
CLIPPED = Workload(name="pipelined", model="mlp", dataset="digits", optimizer=ADAMW, clip_norm=0.1)
TIED = msgspec.structs.replace(workloads.get("digits-tied-mlp"), name="tied", clip_norm=0.1)


@pytest.mark.parametrize(
    ("bug", "rung", "step"),
    [
        ("schedule-divides-again", "gradients before clipping", 0),
        ("norm-of-own-part", "gradients after clipping", 0),
        ("lost-momentum", "optimizer state", 2),
    ],
)
def test_bug_is_caught_under_another_schedule(bug: str, rung: str, step: int, ls_runner: Runner) -> None:
    verdict = judged(ls_runner, "torch-pp+schedule=1f1b", CLIPPED, bug)
    assert verdict.conclusion == "different", verdict
    assert verdict.divergence is not None
    assert (verdict.divergence.rung, verdict.divergence.step) == (rung, step), verdict
    assert verdict.divergence.times_threshold > 1e5, verdict


@pytest.mark.parametrize(("bug", "step"), [("mean-of-means", 2), ("wrong-shard", 0)])
def test_bug_of_one_replica_of_a_pipeline_shows_in_the_loss(bug: str, step: int, ls_runner: Runner) -> None:
    verdict = judged(ls_runner, "torch-ddp-pp", CLIPPED, bug, world_size=4)
    assert verdict.conclusion == "different", verdict
    assert verdict.divergence is not None
    assert (verdict.divergence.rung, verdict.divergence.step) == ("loss", step), verdict


@pytest.mark.parametrize("name", ["torch-pp", "torch-pp+schedule=1f1b", "torchgpipe"])
def test_the_same_pipelined_case_without_a_bug_is_equivalent(name: str, ls_runner: Runner) -> None:
    assert judged(ls_runner, name, CLIPPED).equivalent


def test_tied_layers_in_different_stages_are_equivalent_when_their_gradients_are_added(ls_runner: Runner) -> None:
    # Cut so that the two layers with one weight lie in different stages.
    assert judged(ls_runner, "torch-pp+balance=5-5", TIED).equivalent


def test_tied_layers_of_different_stages_go_on_in_one(ls_runner: Runner) -> None:
    # Of four stages none holds both layers with one weight, a single rank does: it must not ask for a second name.
    resumed = msgspec.structs.replace(TIED, optimizer=ADAMW, check=Check(num_steps=4, resume_at=2, resume_ranks=1))
    assert judged(ls_runner, "torch-pp", resumed, world_size=4).equivalent


@pytest.mark.parametrize(("name", "world_size"), [("torch-pp", 2), ("torch-ddp-pp", 4)])
def test_a_stage_that_trains_nothing_is_equivalent(name: str, world_size: int, ls_runner: Runner) -> None:
    # torch refuses to clip its gradients, and to wrap it in DDP, which would bring it the first replica's weights.
    trained = Workload(
        name="untrained", model="mlp", model_options={"depth": 1}, dataset="digits", frozen=("dense1",), clip_value=0.01
    )
    assert judged(ls_runner, f"{name}+balance=3-1", trained, world_size=world_size).equivalent


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_around_a_pipeline_of_threads_is_lost(precision: str, ls_runner: Runner) -> None:
    trained = workloads.get(f"digits-mlp-{precision}")
    lost = judged(ls_runner, "torchgpipe+autocast=outside", trained)
    # Rounding of half precision is no bug in float64, so the verdict is none; the loss tells all the same.
    assert lost.conclusion == "inconclusive", lost
    assert f"in {precision} alone it differs first at step 0, in loss of loss" in lost.reason
    assert judged(ls_runner, "torchgpipe", trained).equivalent
