"""Bugs inside a framework itself, which every strategy shares with its reference: the referee names the layer.

Each of these trains serially, and computes what its own parallel runs would compute: no comparison inside one framework
could see it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from wrong_strategies import declared

from harness import Job, Trace, Workload, workloads
from harness.record import Divergence, Rung
from harness.runner import Runner
from harness.spec import Check
from harness.strategies import base as strategies

Train = Callable[[Job], tuple[Trace, ...]]

pytestmark = [pytest.mark.faults, pytest.mark.numpy]

# Two steps are enough for a bug inside a framework.
SHORT = Check(num_samples=24, global_batch=24, num_steps=2, num_held_out=8)


def short(name: str, **changes: Any) -> Workload:
    """Return a shipped workload on small images in a short check."""
    return msgspec.structs.replace(workloads.get(name), **({"shape": (1, 8, 8), "check": SHORT} | changes))


CNN = short("digits-cnn-adamw-clipped")
NORMALISED = short("digits-batchnorm-even")
ADAM = short("digits-mlp-adam", accumulation=1)
MOMENTUM = short("digits-mlp")


def torch_trained(job: Job) -> tuple[Trace, ...]:
    from harness.loops.torch_loop import fit

    return fit(job)


def patch(owner: Any, name: str, function: Any) -> None:
    """Change a framework in this rank, which ends with its run."""
    setattr(owner, name, function)


def pads_with_the_edge(job: Job) -> tuple[Trace, ...]:
    """Repeat the image's edge around it, where the model says zeros."""
    from torch import nn
    from torch.nn import functional

    def forward(layer: nn.Conv2d, image: Any, weight: Any, bias: Any) -> Any:
        padded = functional.pad(image, (1, 1, 1, 1), mode="replicate")
        return functional.conv2d(padded, weight, bias)

    patch(nn.Conv2d, "_conv_forward", forward)
    return torch_trained(job)


def lets_gradients_through_a_dead_relu(job: Job) -> tuple[Trace, ...]:
    """Give the rectifier a derivative of 0.01 where it is flat; what it puts out is right."""
    import torch
    from torch import nn

    class Leaking(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Any) -> Any:
            context.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(context: Any, dy: Any) -> Any:
            (x,) = context.saved_tensors
            return torch.where(x > 0, dy, 0.01 * dy)

    patch(nn.ReLU, "forward", lambda _layer, x: Leaking.apply(x))
    return torch_trained(job)


def takes_the_mean_of_a_tile(job: Job) -> tuple[Trace, ...]:
    from torch import nn
    from torch.nn import functional

    patch(nn.MaxPool2d, "forward", lambda layer, x: functional.avg_pool2d(x, layer.kernel_size))
    return torch_trained(job)


def does_not_rescale_what_dropout_keeps(job: Job) -> tuple[Trace, ...]:
    from harness.loops import torch_model

    def forward(layer: Any, inputs: Any) -> Any:
        if not layer.training:
            return inputs
        head, mask, *rest = inputs
        return (head * mask, *rest) if rest else head * mask

    patch(torch_model.MaskedDropout, "forward", forward)
    return torch_trained(job)


def normalises_with_the_epsilon_of_keras(job: Job) -> tuple[Trace, ...]:
    from torch.nn import functional

    original: Any = functional.batch_norm
    patch(functional, "batch_norm", lambda *arguments: original(*arguments[:-1], 1e-3))
    return torch_trained(job)


def keeps_the_biased_variance(job: Job) -> tuple[Trace, ...]:
    """Feed the running variance the biased one: training is right, evaluation is not."""
    from torch import nn

    original = nn.modules.batchnorm._BatchNorm.forward

    def forward(layer: Any, x: Any) -> Any:
        output = original(layer, x)
        if layer.training:
            values = x.detach().transpose(0, 1).flatten(1)
            layer.running_var.data -= layer.momentum * values.var(1) / values.shape[1]
        return output

    patch(nn.modules.batchnorm._BatchNorm, "forward", forward)
    return torch_trained(job)


def forgets_the_bias_correction(job: Job) -> tuple[Trace, ...]:
    """Move by Adam's raw moments, which begin at zero."""
    import torch

    from harness.loops.torch_loop import fit
    from harness.loops.torch_parallelism import Parallelism

    def update(optimizer: Any) -> None:
        before = [parameter.detach().clone() for parameter in optimizer.param_groups[0]["params"]]
        optimizer.step()
        group = optimizer.param_groups[0]
        with torch.no_grad():
            for parameter, start in zip(group["params"], before, strict=True):
                state = optimizer.state[parameter]
                parameter.copy_(start - group["lr"] * state["exp_avg"] / (state["exp_avg_sq"].sqrt() + group["eps"]))

    return fit(job, Parallelism(update=update))


def forgets_the_first_velocity(job: Job) -> tuple[Trace, ...]:
    """Damp the first velocity, too, as SGD with dampening would."""
    from harness.loops.torch_loop import fit
    from harness.loops.torch_parallelism import Parallelism

    def update(optimizer: Any) -> None:
        optimizer.step()
        for state in optimizer.state.values():
            if "seen" not in state:
                state["momentum_buffer"] *= 0.1
                state["seen"] = True

    return fit(job, Parallelism(update=update))


def keras_pads_with_the_edge(job: Job) -> tuple[Trace, ...]:
    import keras
    import tensorflow as tf

    from harness.loops import keras_loop

    def call(layer: Any, x: Any) -> Any:
        edges = tf.concat([x[:, :1], x, x[:, -1:]], axis=1)
        edges = tf.concat([edges[:, :, :1], edges, edges[:, :, -1:]], axis=2)
        return tf.nn.conv2d(edges, layer.kernel, 1, "VALID") + layer.bias

    patch(keras.layers.Conv2D, "call", call)
    return keras_loop.fit(job)


def keras_forgets_the_bias_correction(job: Job) -> tuple[Trace, ...]:
    from harness.loops import keras_loop, keras_optimizer

    def update_step(optimizer: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
        import tensorflow as tf

        index = optimizer._get_variable_index(variable)
        mean, square = optimizer._momentums[index], optimizer._velocities[index]
        optimizer.assign_add(mean, (gradient - mean) * (1 - optimizer.beta_1))
        optimizer.assign_add(square, (gradient * gradient - square) * (1 - optimizer.beta_2))
        rate = tf.cast(learning_rate, variable.dtype)
        optimizer.assign_sub(variable, rate * mean / (tf.sqrt(square) + optimizer.epsilon))

    patch(keras_optimizer.Adam, "update_step", update_step)
    return keras_loop.fit(job)


@pytest.fixture
def divergence(ls_runner: Runner) -> Callable[..., Divergence | None]:
    """Return where a serial strategy, declared for the moment, leaves the referee."""

    def found(train: Train, workload: Workload, framework: str = "torch") -> Divergence | None:
        requires = {"torch": ("torch",), "tensorflow": ("tensorflow", "keras")}[framework]
        with declared(train, framework=framework, requires=requires, reference_of=None, backends={"cpu": "none"}):
            lacking = strategies.get(train.__name__).missing()
            if lacking:
                pytest.skip(lacking)
            return ls_runner.frameworks(workload, "numpy-serial", train.__name__).divergence

    return found


# With the rung where it shows first, and how the name of the tensor ends where a bug has a place.
ON_TORCH: list[tuple[Train, Workload, Rung, str]] = [
    (pads_with_the_edge, CNN, "activations", "conv1"),
    (takes_the_mean_of_a_tile, CNN, "activations", "maxpool1"),
    (does_not_rescale_what_dropout_keeps, CNN, "activations", "dropout1"),
    (normalises_with_the_epsilon_of_keras, NORMALISED, "activations", "bn1"),
    (lets_gradients_through_a_dead_relu, MOMENTUM, "gradients before clipping", "dense1.bias"),
    (keeps_the_biased_variance, NORMALISED, "buffers", ".running_var"),
    (forgets_the_first_velocity, MOMENTUM, "optimizer state", ""),
    (forgets_the_bias_correction, ADAM, "parameters", ""),
]


@pytest.mark.parametrize(("train", "workload", "rung", "tensor"), ON_TORCH)
@pytest.mark.torch
@pytest.mark.xdist_group("torch")
def test_a_bug_inside_torch_is_named(
    divergence: Callable[..., Divergence | None], train: Train, workload: Workload, rung: Rung, tensor: str
) -> None:
    found = divergence(train, workload)
    assert found is not None
    assert (found.rung, found.step) == (rung, 0)
    assert found.tensor.endswith(tensor), found
    assert found.times_threshold > 1e3


@pytest.mark.parametrize("workload", [CNN, NORMALISED, MOMENTUM, ADAM], ids=lambda workload: workload.name)
@pytest.mark.torch
@pytest.mark.xdist_group("torch")
def test_torch_itself_is_not_accused(divergence: Callable[..., Divergence | None], workload: Workload) -> None:
    assert divergence(torch_trained, workload) is None


@pytest.mark.parametrize(
    ("train", "workload", "rung", "tensor"),
    [
        (keras_pads_with_the_edge, CNN, "activations", "conv1"),
        (keras_forgets_the_bias_correction, ADAM, "parameters", ""),
    ],
)
@pytest.mark.tensorflow
@pytest.mark.xdist_group("tensorflow")
def test_a_bug_inside_keras_is_named(
    divergence: Callable[..., Divergence | None], train: Train, workload: Workload, rung: Rung, tensor: str
) -> None:
    found = divergence(train, workload, "tensorflow")
    assert found is not None
    assert (found.rung, found.step) == (rung, 0)
    assert found.tensor.endswith(tensor), found
