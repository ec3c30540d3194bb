"""PyTorch against Keras, both serial, from the same seed weights: neither framework's own bug is the truth."""

from __future__ import annotations

import pytest

from harness import workloads
from harness.plugin import HARNESS
from harness.runner import Runner
from harness.strategies import base as strategies

WORKLOADS = [
    "digits-mlp",
    "digits-cnn-accumulated",
    "digits-cnn-adamw-clipped",
    "digits-mnist-cnn",
    "digits-mlp-adam",
    "digits-mlp-frozen",
    "digits-tied-mlp",
]


@pytest.mark.conformance
@pytest.mark.tensorflow
@pytest.mark.torch
@pytest.mark.xdist_group("tensorflow")
@pytest.mark.parametrize("name", WORKLOADS)
def test_keras_computes_what_torch_computes(name: str, ls_runner: Runner, request: pytest.FixtureRequest) -> None:
    if request.config.stash[HARNESS].options.selection.asked:
        pytest.skip("particular cases were asked for, and these are none")
    for serial in ("torch-serial", "keras-serial"):
        # Asked without an import: frameworks do not share a process, least of all pytest's.
        lacking = strategies.get(serial).missing()
        if lacking:
            pytest.skip(lacking)
    verdict = ls_runner.frameworks(workloads.get(name))
    assert verdict.equivalent, verdict
