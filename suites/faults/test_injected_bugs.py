"""The oracle's negative controls: every injected bug is caught, under SGD, under AdamW, and behind clipping."""

from __future__ import annotations

import pytest

from harness import Case, Optimizer, Workload
from harness.faults import base as faults
from harness.runner import Runner
from harness.spec import Fault

SGD = Optimizer(name="sgd", learning_rate=0.05, momentum=0.9, weight_decay=1e-2)
ADAMW = Optimizer(name="adamw", learning_rate=1e-3, weight_decay=1e-2)
UNDER = {"sgd": (SGD, None), "adamw": (ADAMW, None), "adamw-clipped": (ADAMW, 0.1)}
# Where each bug must show first; 0 is the first step, -1 before it.
FIRST_SEEN = {
    "clip-per-rank": ("gradients before clipping", 0),
    "learning-rate-x-world": ("parameters", 0),
    "lost-momentum": ("optimizer state", 2),
    "mean-of-means": ("loss", 2),
    "no-broadcast": ("parameters", -1),
    "padded-evaluation": ("predictions", 5),
    "regulariser-x-world": (None, 0),
    "stale-gradients": ("gradients before clipping", 1),
    "sum-for-mean": ("gradients before clipping", 0),
    "unsynchronised-buffers": ("buffers at next forward", 1),
    "wrong-shard": ("data order", 0),
}
ON_THE_LAST_RANK = {"no-broadcast", "stale-gradients", "unsynchronised-buffers", "wrong-shard"}
pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]


def workload(name: str, under: str) -> Workload:
    optimizer, clip_norm = UNDER[under]
    return Workload(
        name=f"{name}-{under}",
        model="mnist-cnn" if name == "unsynchronised-buffers" else "mlp",
        dataset="digits",
        optimizer=optimizer,
        clip_norm=0.1 if name == "clip-per-rank" else clip_norm,
    )


def test_every_fault_has_its_expectation() -> None:
    assert set(faults.bugs()) == set(FIRST_SEEN)


@pytest.mark.parametrize("under", UNDER)
@pytest.mark.parametrize("name", FIRST_SEEN)
def test_bug_is_caught_where_it_first_acts(name: str, under: str, ls_runner: Runner) -> None:
    if name == "unsynchronised-buffers" and under != "sgd":
        pytest.skip("buffers do not depend on the optimizer")
    trained = workload(name, under)
    case = Case(workload=trained.name, strategy="torch-ddp", world_size=2)
    verdict = ls_runner.verdict(case, trained, Fault(name=name))
    assert verdict.conclusion == "different", verdict
    seen = verdict.divergence
    assert seen is not None
    rung, step = FIRST_SEEN[name]
    assert seen.step == step, verdict
    assert rung in (None, seen.rung), verdict
    assert seen.rank == (1 if name in ON_THE_LAST_RANK else 0), verdict
    assert seen.times_threshold > 1e5, verdict


@pytest.mark.parametrize("under", UNDER)
def test_the_same_case_without_a_bug_is_equivalent(under: str, ls_runner: Runner) -> None:
    trained = workload("clean", under)
    verdict = ls_runner.verdict(Case(workload=trained.name, strategy="torch-ddp", world_size=2), trained)
    assert verdict.equivalent, verdict
