"""Bugs that no diagnosis knows: what may be said of them is that the cause is unknown, not that it is another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from harness import Job, Trace
from harness.faults.base import Seams


def _struck(job: Job, **seams: Callable[..., Any]) -> tuple[Trace, ...]:
    """Train as torch-ddp does, with a bug that no registry holds."""
    from harness.loops import torch_loop
    from harness.strategies import base as strategies
    from harness.strategies import torch_ddp

    # In the process of this rank only, which ends with the case.
    vars(torch_loop)["seams_of"] = lambda _job: Seams(**seams)
    return torch_ddp.train(msgspec.structs.replace(job, options=dict(strategies.get("torch-ddp").chosen)))


def _in_gradients(job: Job, change: Callable[[Any], Any]) -> tuple[Trace, ...]:
    def strike(_step: int, parameters: Any) -> None:
        for parameter in parameters.values():
            if parameter.grad is not None:
                parameter.grad.copy_(change(parameter.grad))

    return _struck(job, gradients=strike)


def noise_on_gradients(job: Job) -> tuple[Trace, ...]:
    def noisy(gradient: Any) -> Any:
        import torch

        draw = torch.Generator().manual_seed(gradient.numel())
        return gradient * (1 + 0.1 * torch.randn(gradient.shape, dtype=gradient.dtype, generator=draw))

    return _in_gradients(job, noisy)


def small_noise_on_gradients(job: Job) -> tuple[Trace, ...]:
    def noisy(gradient: Any) -> Any:
        import torch

        draw = torch.Generator().manual_seed(gradient.numel())
        return gradient + 0.01 * gradient.norm() * torch.randn(gradient.shape, dtype=gradient.dtype, generator=draw)

    return _in_gradients(job, noisy)


def signs_of_gradients(job: Job) -> tuple[Trace, ...]:
    return _in_gradients(job, lambda gradient: 1e-3 * gradient.sign())


def flipped_gradients(job: Job) -> tuple[Trace, ...]:
    return _in_gradients(job, lambda gradient: gradient.flip(0))


def squashed_gradients(job: Job) -> tuple[Trace, ...]:
    return _in_gradients(job, lambda gradient: gradient.tanh() + 0.1 * gradient)


def centred_gradients(job: Job) -> tuple[Trace, ...]:
    return _in_gradients(job, lambda gradient: gradient - gradient.mean())


def wrong_activation(job: Job) -> tuple[Trace, ...]:
    """Put a leaky ReLU where the workload has a ReLU."""

    def swap(module: Any, model: Any) -> Any:
        import torch

        for name, child in list(model.named_modules()):
            if isinstance(child, torch.nn.ReLU):
                parent = model.get_submodule(name.rpartition(".")[0])
                setattr(parent, name.rpartition(".")[2], torch.nn.LeakyReLU(0.1))
        return module

    return _struck(job, module=swap)


def shifted_labels(job: Job) -> tuple[Trace, ...]:
    def shift(_step: Any, batch: Any) -> Any:
        import dataclasses

        labels = batch.labels.copy()
        labels[0] = (labels[0] + 1) % 10
        return dataclasses.replace(batch, labels=labels)

    return _struck(job, batch=shift)


def brighter_images(job: Job) -> tuple[Trace, ...]:
    def brighten(_step: Any, batch: Any) -> Any:
        import dataclasses

        return dataclasses.replace(batch, images=batch.images + 0.1)

    return _struck(job, batch=brighten)


def wrong_epsilon(job: Job) -> tuple[Trace, ...]:
    def change(optimizer: Any) -> None:
        for group in optimizer.param_groups:
            group["eps"] = 1e-4

    return _struck(job, optimizer=change)


def second_beta(job: Job) -> tuple[Trace, ...]:
    """Give Adam another second beta, and momentum some dampening from the second step on."""

    def change(step: int, optimizer: Any) -> None:
        for group in optimizer.param_groups:
            if "momentum" in group:
                group["momentum"] = 0.9 - 0.01 * step
                group["weight_decay"] = 0.01 + 0.01 * step
            else:
                group["betas"] = (0.9, 0.99)

    return _struck(job, before_update=change)


def largest_gradients_only(job: Job) -> tuple[Trace, ...]:
    """Set the smaller half of every gradient to zero, as compression does."""
    return _in_gradients(job, lambda gradient: gradient * (gradient.abs() >= gradient.abs().median()))


def smoothed_labels(job: Job) -> tuple[Trace, ...]:
    def smooth(module: Any, model: Any) -> Any:
        model.register_forward_hook(lambda _model, _inputs, logits: 0.9 * logits + 0.1 * logits.mean(1, keepdim=True))
        return module

    return _struck(job, module=smooth)


def squared_update(job: Job) -> tuple[Trace, ...]:
    """Add to the weights after every update what depends on their squares."""

    def add(_step: int, model: Any, _optimizer: Any) -> None:
        import torch

        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(1e-3 * parameter * parameter.abs())

    return _struck(job, updated=add)


def noise_on_weights(job: Job) -> tuple[Trace, ...]:
    def disturb(step: int, model: Any, _optimizer: Any) -> None:
        import torch

        draw = torch.Generator().manual_seed(step)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, dtype=parameter.dtype, generator=draw), alpha=1e-4)

    return _struck(job, updated=disturb)


def averaged_weights(job: Job) -> tuple[Trace, ...]:
    """Pull every tensor towards its own mean after the update."""

    def pull(_step: int, model: Any, _optimizer: Any) -> None:
        import torch

        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.99).add_(0.01 * parameter.mean())

    return _struck(job, updated=pull)


def noise_on_state(job: Job) -> tuple[Trace, ...]:
    def disturb(step: int, optimizer: Any) -> None:
        import torch

        for state in optimizer.state.values() if step else ():
            for value in state.values():
                if torch.is_tensor(value) and value.dim():
                    value.mul_(1 + 0.05 * torch.rand(value.shape, dtype=value.dtype))

    return _struck(job, before_update=disturb)


UNKNOWN = (
    noise_on_gradients,
    small_noise_on_gradients,
    signs_of_gradients,
    flipped_gradients,
    squashed_gradients,
    centred_gradients,
    wrong_activation,
    shifted_labels,
    brighter_images,
    wrong_epsilon,
    second_beta,
    largest_gradients_only,
    smoothed_labels,
    squared_update,
    noise_on_weights,
    averaged_weights,
    noise_on_state,
)
