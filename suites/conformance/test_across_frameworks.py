"""PyTorch, Keras and plain numpy, all serial, from the same seed weights: no framework's own bug is the truth."""

from __future__ import annotations

import itertools

import pytest

from harness import support, workloads
from harness.plugin import HARNESS
from harness.record import Verdict
from harness.runner import Runner
from harness.strategies import base as strategies

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.numpy,
    pytest.mark.tensorflow,
    pytest.mark.torch,
    pytest.mark.xdist_group("tensorflow"),
]

REFEREE, TORCH, KERAS = "numpy-serial", "torch-serial", "keras-serial"
# What all three train. Keras starts a process a run, which takes seconds.
WORKLOADS = [
    "digits-mlp",
    "digits-cnn-accumulated",
    "digits-cnn-adamw-clipped",
    "digits-mnist-cnn",
    "digits-mlp-adam",
    "digits-mlp-frozen",
    "digits-tied-mlp",
]
# What PyTorch and the referee alone train unasked: mostly the same maths as above, in a check of its own.
MORE = [
    "digits-batchnorm-even",
    "digits-cnn",
    "digits-cnn-resumed",
    "digits-mlp-adamw-resized",
    "digits-mlp-resized",
]
CASES = [(name, *pair) for name in WORKLOADS for pair in itertools.combinations((REFEREE, TORCH, KERAS), 2)]


@pytest.fixture(autouse=True)
def unasked(request: pytest.FixtureRequest) -> None:
    if request.config.stash[HARNESS].options.selection.asked:
        pytest.skip("particular cases were asked for, and these are none")


def judged(runner: Runner, name: str, first: str, second: str) -> Verdict:
    for serial in (first, second):
        # Asked without an import: frameworks do not share a process, least of all pytest's.
        lacking = strategies.get(serial).missing()
        if lacking:
            pytest.skip(lacking)
    verdict = runner.frameworks(workloads.get(name), first, second)
    assert "activations" in [summary.rung for summary in verdict.rungs], "layer by layer"
    return verdict


@pytest.mark.parametrize(("name", "first", "second"), CASES)
def test_two_frameworks_compute_the_same(name: str, first: str, second: str, ls_runner: Runner) -> None:
    verdict = judged(ls_runner, name, first, second)
    assert verdict.equivalent, verdict


@pytest.mark.parametrize("name", MORE)
def test_torch_computes_what_the_definitions_say(name: str, ls_runner: Runner) -> None:
    verdict = judged(ls_runner, name, REFEREE, TORCH)
    assert verdict.equivalent, verdict


def test_every_shipped_workload_on_digits_is_judged_or_beyond_the_referee() -> None:
    within = [
        name
        for name, declared in workloads.workloads().items()
        if name.startswith("digits-") and support.limit(declared.workload, strategies.get(REFEREE)) is None
    ]
    assert sorted(within) == sorted(WORKLOADS + MORE)
