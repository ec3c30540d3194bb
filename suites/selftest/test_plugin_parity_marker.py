"""Users' own tests, with their own workloads, models and strategies, wherever those are written."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_project import Project

# All of it in the test file: a model, a dataset, a workload, a strategy.
OWN = """
import math
import numpy as np
import pytest
import numpy_strategies
from harness import Check, Workload, strategy, workload
from harness.datasets.base import Data
from harness.models.base import Dense, Flatten
from harness.resolve import address

def model(shape, num_classes, dropout):
    return Flatten(), Dense(name="dense1", in_features=math.prod(shape), out_features=num_classes)

def data(workload, data_root):
    draw = np.random.default_rng(0)
    images = draw.standard_normal((30, *workload.shape), dtype=np.float32)
    labels = draw.integers(0, workload.num_classes, 30)
    return Data(images=images, labels=labels, held_out_images=images[:8], held_out_labels=labels[:8], num_classes=4)

@strategy("own-strategy", framework="plain", requires=(), backends={"cpu": "pipes"}, reference_of="plain-serial")
def train(job):
    return numpy_strategies.mean(job)

MINE = Workload(name="mine", model=address(model), dataset=address(data), shape=(2, 3, 3), num_classes=4, seed=3,
                check=Check(num_samples=15, global_batch=6, num_held_out=8))

@workload()
def described():
    return Workload(name="described", model=address(model), dataset="synthetic", shape=(1, 4, 4), num_classes=4,
                    check=MINE.check)

@pytest.mark.parity(strategy="own-strategy", workload=MINE, world_size=3)
def test_own_everything(verdict, case):
    assert verdict.equivalent, verdict
    assert case.id == "mine/own-strategy/3/cpu"

@pytest.mark.parity("own-strategy", described)
@pytest.mark.parity("numpy-mean", "described", world_size=3)
def test_two_cases_of_a_decorated_workload(verdict):
    assert verdict.equivalent, verdict

@pytest.mark.parity(strategy="numpy-mean", workload="tiny")
class TestClass:
    def test_method(self, run):
        assert run.verdict().equivalent
"""


# In a package, with an import from its neighbour.
PACKAGE = """
from .helpers import batch
from harness import Check, Workload
import pytest, numpy_strategies
from harness.resolve import address
import numpy_strategies

def model(shape, num_classes, dropout):
    assert batch == 6
    return numpy_strategies.linear(shape, num_classes, dropout)

MINE = Workload(name="packaged", model=address(model), dataset="synthetic", shape=(1, 4, 4), num_classes=4,
                check=Check(num_samples=15, global_batch=batch, num_held_out=8))

@pytest.mark.parity(strategy="numpy-mean", workload=MINE)
def test_mine(verdict):
    assert verdict.equivalent, verdict
"""


@pytest.mark.parametrize("mode", ["prepend", "append", "importlib"])
def test_own_workload_model_data_and_strategy_under_every_import_mode(tmp_path: Path, mode: str) -> None:
    project = Project(tmp_path, tests="")
    # Two files of one name: only a path tells them apart.
    project.write("deep/test_own.py", OWN)
    project.write("other/test_own.py" if mode == "importlib" else "other/test_other.py", "def test_nothing(): pass\n")
    project.write("tests/__init__.py", "")
    project.write("tests/helpers.py", "batch = 6\n")
    project.write("tests/test_package.py", PACKAGE)
    result = project.run(f"--import-mode={mode}")
    assert result.code == 0, result.text
    assert result.verdicts() == {
        "mine/own-strategy/3/cpu": "equivalent",
        "described/own-strategy/2/cpu": "equivalent",
        "described/numpy-mean/3/cpu": "equivalent",
        "tiny/numpy-mean/2/cpu": "equivalent",
        "packaged/numpy-mean/2/cpu": "equivalent",
    }


WRONG = """
import pytest
@pytest.mark.parity({arguments})
def test_wrong({fixture}):
    assert {fixture}
"""


TINY = "strategy='numpy-mean', workload='tiny'"
WRONG_MARKERS = {
    "strategy='numpy-meen', workload='tiny'": "unknown strategy 'numpy-meen'; did you mean 'numpy-mean'",
    "strategy='numpy-mean', workload='tyni'": "unknown workload 'tyni'; did you mean 'tiny'",
    f"{TINY}, device='tpu'": "Invalid enum value 'tpu'",
    f"{TINY}, world_size=0": "a number of ranks >= 1",
    f"{TINY}, worldsize=2": "unexpected keyword argument 'worldsize'",
    "workload='tiny'": "missing 1 required positional argument: 'strategy'",
}


def test_a_marker_that_cannot_be_meant_is_told_at_its_test(tmp_path: Path) -> None:
    project = Project(tmp_path, "def test_fine():\n    pass\n")
    for number, arguments in enumerate(WRONG_MARKERS):
        project.write(f"test_wrong{number}.py", WRONG.format(arguments=arguments, fixture="verdict"))
    project.write("test_no_fixture.py", WRONG.format(arguments=TINY, fixture="tmp_path"))
    result = project.run("--continue-on-collection-errors")
    for number, words in enumerate(WRONG_MARKERS.values()):
        (line,) = (line for line in result.text.splitlines() if f"test_wrong{number}.py::test_wrong: " in line)
        assert words in line
    assert "expected a test with the marker parity to ask for its case but got none of the fixtures" in result.text
    assert "Traceback" not in result.text
    assert f"1 passed, {len(WRONG_MARKERS) + 1} errors" in result.text


def test_options_leave_out_marked_cases_that_do_not_fit(tmp_path: Path) -> None:
    tests = """
import pytest
@pytest.mark.parity(strategy="numpy-mean", workload="tiny")
@pytest.mark.parity(strategy="numpy-mean", workload="tiny", world_size=3)
def test_mine(verdict):
    assert verdict.equivalent, verdict
"""
    result = Project(tmp_path, tests).run("--ls-world-size=3")
    assert "1 passed, 1 deselected" in result.text
    assert result.verdicts() == {"tiny/numpy-mean/3/cpu": "equivalent"}


# A step that no decorator announces, in the test file itself.
STEP = """
import pytest

def step(model, optimizer, inputs, labels):
    import torch.distributed as dist
    from torch.nn.functional import cross_entropy
    for tensor in [] if optimizer.state else model.parameters():
        dist.broadcast(tensor.data, 0)
    optimizer.zero_grad()
    loss = cross_entropy(model(inputs), labels)
    loss.backward()
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()
    optimizer.step()
    return loss

@pytest.mark.parity(strategy=step)
def test_contract(verdict, case):
    assert verdict.equivalent or case.workload in ("uneven-batch", "batch-norm"), verdict
"""


def test_a_function_of_ones_own_is_asked_the_whole_contract(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    result = Project(tmp_path, STEP).run("-m", "torch")
    assert result.code == 0, result.text
    assert result.verdicts() == {
        "sgd/step/2/cpu": "equivalent",
        "adamw/step/2/cpu": "equivalent",
        "uneven-batch/step/2/cpu": "different",
        "clipped/step/2/cpu": "not-verified",
        "accumulated/step/2/cpu": "not-verified",
        "batch-norm/step/2/cpu": "different",
    }
