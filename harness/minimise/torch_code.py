"""A workload in the words of plain PyTorch: its model, its optimizer, the samples of its steps."""

from __future__ import annotations

from harness import plan
from harness.errors import SpecError
from harness.models import base as models
from harness.spec import Optimizer, Workload

_KINDS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}


def refusal(workload: Workload) -> str | None:
    """Return what of a workload a short script cannot say, or None."""
    described = models.layers(workload)
    cannot = {
        "layers of Lockstep's own": models.has_blocks(described),
        "dropout, whose masks are drawn by sample": bool(workload.dropout),
        "augmentation, which is drawn by sample": workload.augment != "none",
        "an interrupted training": workload.check.resume_at is not None,
        f"autocast ({workload.precision})": workload.precision != "full",
    }
    return next((what for what, present in cannot.items() if present), None)


def modules(workload: Workload) -> list[str]:
    """Return an expression for each layer of the workload's model.

    Raises:
        SpecError: a layer has no counterpart in ``torch.nn``.
    """
    found, flat = [], False
    for layer in models.layers(workload):
        flat = flat or isinstance(layer, models.Flatten)
        found.append(f"nn.{_module(layer, flat=flat)}")
    return found


def after_building(workload: Workload) -> list[str]:
    """Return statements on the built ``model``: layers that share their tensors, and those that are not trained."""
    described = models.layers(workload)
    place = {getattr(layer, "name", ""): number for number, layer in enumerate(described)}
    tied = [
        f"model[{place[layer.name]}].{tensor} = model[{place[layer.tied]}].{tensor}"
        for layer in described
        if isinstance(layer, models.Dense) and layer.tied is not None
        for tensor in ("weight", "bias")
    ]
    return [*tied, *(f"model[{place[name]}].requires_grad_(False)" for name in workload.frozen)]


def optimizer(spec: Optimizer) -> tuple[str, str]:
    """Return an optimizer's class and its arguments as a dictionary."""
    settings: dict[str, object] = {"lr": spec.learning_rate}
    if spec.name == "sgd":
        given = {"momentum": spec.momentum, "nesterov": spec.nesterov, "weight_decay": spec.weight_decay}
        settings |= {name: value for name, value in given.items() if value}
    else:
        settings |= {"betas": spec.betas, "eps": spec.epsilon, "weight_decay": spec.weight_decay}
    written = ", ".join(f'"{name}": {value!r}' for name, value in settings.items())
    return f"torch.optim.{_KINDS[spec.name]}", f"{{{written}}}"


def clipping(workload: Workload) -> str:
    """Return the statement that clips the gradients of ``model``."""
    if workload.clip_value is not None:
        return f"nn.utils.clip_grad_value_(model.parameters(), {workload.clip_value})"
    return f"nn.utils.clip_grad_norm_(model.parameters(), {workload.clip_norm})"


def steps(workload: Workload) -> list[tuple[float, list[int]]]:
    """Return the learning rate and the samples of every step of the equality check."""
    return [
        (step.learning_rate, [int(sample) for batch in step.micro_batches for sample in batch])
        for step in plan.check_steps(workload)
    ]


def _module(layer: models.Layer, *, flat: bool) -> str:
    match layer:
        case models.Conv(in_channels=ins, out_channels=outs, kernel=kernel):
            return f"Conv2d({ins}, {outs}, {kernel}, padding={kernel // 2})"
        case models.BatchNorm(num_features=features, epsilon=epsilon, momentum=momentum):
            return f"BatchNorm{1 if flat else 2}d({features}, eps={epsilon}, momentum={momentum})"
        case models.Dense(in_features=ins, out_features=outs):
            return f"Linear({ins}, {outs})"
        case models.MaxPool(size=size):
            return f"MaxPool2d({size})"
        case models.ReLU() | models.Flatten():
            return f"{type(layer).__name__}()"
    raise SpecError(f"expected layers of torch.nn but got {layer!r}, for which a script has no words")
