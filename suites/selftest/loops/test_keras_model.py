"""The Keras builder: tied layers are one, and what Keras does not have is refused.

TensorFlow runs in a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.models import base
from harness.spec import Workload

pytestmark = pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs tensorflow")

TIED = Workload(name="w", model="tied-mlp", dataset="synthetic", shape=(1, 2, 2), model_options={"width": 3})
SCRIPT = """
import json, numpy as np, tensorflow as tf
from harness.errors import SpecError
from harness.loops import keras_model
from harness.spec import Workload

def workload(model, **options):
    return Workload(name="w", model=model, dataset="synthetic", shape=(1, 2, 2), model_options=options)

network = keras_model.build(workload("tied-mlp", width=3), "float64")
images = np.linspace(-1, 1, 8).reshape(2, 1, 2, 2)
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(network.model([images]) ** 2)
variables = network.parameters
gradients = tape.gradient(loss, [variable.value for variable in variables.values()])
try:
    told = ""
    keras_model.build(workload("transformer", patch=1), "float64")
except SpecError as error:
    told = str(error)
print("\\n" + json.dumps({
    "trainable": len(network.model.trainable_variables),
    "loss": float(loss),
    "gradients": {n: keras_model.canonical(g).tolist() for n, g in zip(variables, gradients)},
    "told": told,
}))
"""


@pytest.fixture(scope="module")
def keras() -> dict[str, Any]:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    seen: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return seen


def loss(weights: dict[str, NDArray[np.float64]]) -> float:
    """Return the loss of the script, in numpy."""
    x = np.linspace(-1, 1, 8).reshape(2, 4)
    for number, name in enumerate(("dense1", "dense2", "dense3", "dense2", "dense5")):
        x = np.einsum("ni,oi->no", x, weights[f"{name}.weight"]) + weights[f"{name}.bias"]
        x = np.maximum(x, 0) if number < 4 else x
    return float((x**2).sum())


def test_a_tied_layer_uses_the_weights_of_the_first(keras: dict[str, Any]) -> None:
    weights = base.seed_weights(TIED)
    assert keras["trainable"] == len(weights) == 8
    assert keras["loss"] == pytest.approx(loss(weights), rel=1e-12)


def test_its_gradient_adds_up_over_both_uses(keras: dict[str, Any]) -> None:
    weights = base.seed_weights(TIED)
    assert list(keras["gradients"]) == list(weights)
    for index in np.ndindex(3, 3):
        up, down = ({**weights, "dense2.weight": weights["dense2.weight"].copy()} for _ in range(2))
        up["dense2.weight"][index] += 1e-6
        down["dense2.weight"][index] -= 1e-6
        slope = (loss(up) - loss(down)) / 2e-6
        assert np.array(keras["gradients"]["dense2.weight"])[index] == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_blocks_are_refused_by_the_name_of_the_model(keras: dict[str, Any]) -> None:
    assert keras["told"] == (
        "expected a model of described layers but 'transformer' of workload 'w' is made of PyTorch modules "
        "(patches, block1, block2, pool); train it with a PyTorch strategy"
    )
