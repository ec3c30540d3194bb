"""What a user reads of a bug: its cause in words; and of bugs that nothing is known of, no cause."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from unknown_bugs import noise_on_gradients, noise_on_weights, smoothed_labels, wrong_activation
from wrong_strategies import declared

from harness import Case, Job, Trace
from harness.controls import ADAMW, BASE
from harness.faults import base as faults
from harness.runner import Runner
from harness.spec import Check, Fault, Schedule, Workload

pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]
DECAYED = msgspec.structs.replace(BASE, name="diagnosed-decayed", schedule=Schedule(gamma=0.8))
UNDER_ADAM = msgspec.structs.replace(BASE, name="diagnosed-adamw", optimizer=ADAMW)
CLIPPED = msgspec.structs.replace(UNDER_ADAM, name="diagnosed-clipped", clip_norm=0.1)
THIRDS = msgspec.structs.replace(BASE, name="diagnosed-thirds", accumulation=3)
RESUMED = msgspec.structs.replace(BASE, name="diagnosed-resumed", check=Check(resume_at=2))
NORMALISED = msgspec.structs.replace(BASE, name="diagnosed-normalised", model="mnist-cnn")

# Bug, strategy, number of ranks, workload -> every word of what is said.
SAID: dict[tuple[str, str, int, str], str] = {
    ("sum-for-mean", "torch-ddp", 2, "control"): (
        "every gradient is exactly 2x the reference: summed over 2 ranks instead of averaged"
    ),
    ("sum-for-mean", "torch-fsdp", 3, "diagnosed-clipped"): (
        "every gradient is exactly 3x the reference: summed over 3 ranks instead of averaged"
    ),
    ("divided-twice", "torch-ddp", 2, "diagnosed-adamw"): (
        "every gradient is exactly 0.5x the reference: divided by the 2 ranks twice"
    ),
    ("accumulation-not-divided", "torch-ddp", 2, "diagnosed-thirds"): (
        "loss and gradients are exactly 3x the reference in step 0: 3 micro-batches are added up, but their mean is "
        "asked for"
    ),
    ("stale-gradients", "torch-tp", 2, "control"): (
        "on rank 1 every gradient of step 1 is that of step 0: it was read before the new one had arrived"
    ),
    ("mean-of-means", "torch-zero1", 2, "control"): (
        "the loss is 3.8e-3 of its size away first in step 2, whose 27 samples are not shared out evenly over 2: a "
        "mean of means, not the mean over all samples"
    ),
    ("clip-skipped", "torch-ddp", 2, "diagnosed-clipped"): (
        "on rank 1 every gradient is the same before and after clipping: it is not clipped"
    ),
    ("moments-not-restored", "torch-ddp", 2, "diagnosed-resumed"): (
        "nothing differs before step 2, where a checkpoint was loaded: there every momentum begins again at zero, what "
        "it kept of the steps before is lost"
    ),
    ("learning-rate-x-world", "torch-threads", 2, "control"): (
        "gradients and state are right, and every update is exactly 2x the reference: the learning rate is 0.1, "
        "expected 0.05: it is multiplied by the world size"
    ),
    ("scheduler-x-world", "torch-ddp", 2, "diagnosed-decayed"): (
        "up to step 2 nothing differs, then every update is exactly 0.8x the reference: the learning rate 0.032 is not "
        "the planned one, expected 0.04"
    ),
    ("regulariser-x-world", "torch-pp", 2, "diagnosed-adamw"): (
        "every update is off by a multiple of the weights: weight decay is 2x what is asked for: counted once on each "
        "of 2 ranks"
    ),
    ("no-broadcast", "torch-ddp", 3, "control"): (
        "ranks 1, 2 never received the initial weights: they differ before the first step, those of rank 0 are right"
    ),
    ("unsynchronised-buffers", "torch-ddp", 2, "diagnosed-normalised"): (
        "on rank 1 every buffer differs at the next forward: running statistics drift apart over ranks"
    ),
    ("wrong-shard", "torch-fsdp", 2, "control"): (
        "rank 1 trains the samples of rank 0: ranks read the same part of the data"
    ),
    ("padded-evaluation", "torch-ddp", 2, "control"): (
        "62 held-out samples are counted, expected 61, though every prediction is right: shares are filled up with "
        "samples that count twice"
    ),
}
WORKLOADS = {workload.name: workload for workload in (BASE, DECAYED, UNDER_ADAM, CLIPPED, THIRDS, RESUMED, NORMALISED)}


def with_nesterov(job: Job) -> tuple[Trace, ...]:
    """Train with an optimizer whose default is another one."""
    from harness.faults.base import Seams
    from harness.loops import torch_loop
    from harness.strategies import base as strategies
    from harness.strategies import torch_ddp

    def change(optimizer: object) -> None:
        optimizer.param_groups[0]["nesterov"] = True  # type: ignore[attr-defined]

    vars(torch_loop)["seams_of"] = lambda _job: Seams(optimizer=change)
    return torch_ddp.train(msgspec.structs.replace(job, options=dict(strategies.get("torch-ddp").chosen)))


UNKNOWN = (noise_on_gradients, noise_on_weights, smoothed_labels, wrong_activation)


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    with declared(with_nesterov, *UNKNOWN):
        yield


@pytest.mark.parametrize(("bug", "strategy", "num_ranks", "name"), SAID)
def test_the_cause_of_a_bug_is_named(bug: str, strategy: str, num_ranks: int, name: str, ls_runner: Runner) -> None:
    case = Case(workload=name, strategy=strategy, world_size=num_ranks)
    found = ls_runner.verdict(case, WORKLOADS[name], Fault(name=bug)).diagnosis
    assert found is not None
    assert found.cause in faults.get(bug).causes
    assert found.confidence == "certain"
    assert found.words == SAID[bug, strategy, num_ranks, name]


def judged(runner: Runner, name: str, trained: Workload = BASE) -> str | None:
    verdict = runner.verdict(Case(workload=trained.name, strategy=name, world_size=2), trained)
    assert verdict.conclusion == "different"
    return verdict.diagnosis.cause if verdict.diagnosis else None


@pytest.mark.parametrize("bug", [bug.__name__ for bug in UNKNOWN])
def test_of_a_bug_that_nothing_is_known_of_no_cause_is_told(bug: str, ls_runner: Runner) -> None:
    assert judged(ls_runner, bug) is None


def test_another_optimizer_is_not_mistaken_for_another_rate(ls_runner: Runner) -> None:
    # In the first step Nesterov's momentum moves the weights exactly 1.9 times as far.
    assert judged(ls_runner, "with_nesterov") == "optimizer-settings"


def test_an_equivalent_case_has_no_diagnosis(ls_runner: Runner) -> None:
    verdict = ls_runner.verdict(Case(workload=BASE.name, strategy="torch-ddp", world_size=2), BASE)
    assert verdict.equivalent, verdict
    assert verdict.diagnosis is None
