"""A check's training in plain PyTorch, written apart from Lockstep's loops: what a Keras run is held against."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import plan
from harness.datasets import base as datasets
from harness.datasets.batches import make_batch
from harness.models import base as models
from harness.spec import Workload

# rung -> step -> tensor -> value
Ladder = dict[str, dict[int, dict[str, NDArray[Any]]]]


def train(workload: Workload, cache: Path) -> Ladder:
    """Train a check in one process and return everything that can be seen of it."""
    import torch

    data = datasets.load(workload, cache=str(cache), data_root=None)
    described = models.layers(workload)
    tensors = {name: torch.tensor(value) for name, value in models.seed_weights(workload).items()}
    weights = {
        name: tensors[name].requires_grad_(name.partition(".")[0] not in workload.frozen)
        for name in models.parameters(described)
    }
    buffers = {name: tensors[name] for name in models.buffers(described)}
    trained = [weight for weight in weights.values() if weight.requires_grad]
    optimizer = _optimizer(workload, trained)
    seen: Ladder = {"parameters": {-1: _numpy(weights)}}
    for step in plan.check_steps(workload):
        optimizer.param_groups[0]["lr"] = step.learning_rate
        optimizer.zero_grad()
        seen.setdefault("buffers at next forward", {})[step.number] = _numpy(buffers)
        loss = torch.zeros((), dtype=torch.float64)
        for samples in step.micro_batches:
            batch = make_batch(
                workload, data, samples, step=step.number, dtype="float64", sites=models.dropout_sites(described)
            )
            masks = iter([torch.from_numpy(mask) for mask in batch.masks])
            logits = _forward(described, tensors, torch.from_numpy(batch.images), masks, training=True)
            part = torch.nn.functional.cross_entropy(logits, torch.from_numpy(batch.labels), reduction="sum")
            (part / step.size).backward()  # type: ignore[no-untyped-call]
            loss += part.detach() / step.size
        rows = {"loss": {"loss": loss.numpy()}, "gradients before clipping": _gradients(weights)}
        if workload.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(trained, workload.clip_norm)
            rows["gradients after clipping"] = _gradients(weights)
        if workload.clip_value is not None:
            torch.nn.utils.clip_grad_value_(trained, workload.clip_value)
            rows["gradients after clipping"] = _gradients(weights)
        optimizer.step()
        rows |= {
            "optimizer state": _state(optimizer, weights),
            "parameters": _numpy(weights),
            "buffers": _numpy(buffers),
        }
        for rung, row in rows.items():
            seen.setdefault(rung, {})[step.number] = row
    held_out = torch.from_numpy(data.held_out_images[: workload.check.num_held_out].astype(np.float64))
    logits = _forward(described, tensors, held_out, iter(()), training=False).detach()
    labels = torch.tensor(data.held_out_labels[: workload.check.num_held_out])
    scores = {
        "held-out loss": torch.nn.functional.cross_entropy(logits, labels).numpy(),
        "held-out hits": (logits.argmax(1) == labels).sum().double().numpy(),
        "held-out samples": np.float64(len(labels)),
    }
    seen["predictions"] = {step.number: {"logits": logits.numpy(), **scores}}
    return {rung: rows for rung, rows in seen.items() if any(rows.values())}


def _forward(described: Iterable[models.Layer], tensors: Any, x: Any, masks: Any, *, training: bool) -> Any:
    from torch.nn import functional

    for layer in described:
        own = {kind: tensors.get(f"{getattr(layer, 'name', '')}.{kind}") for kind in ("weight", "bias")}
        match layer:
            case models.Conv(kernel=kernel):
                x = functional.conv2d(x, **own, padding=kernel // 2)
            case models.BatchNorm(name=name, momentum=momentum, epsilon=epsilon):
                own |= {kind: tensors[f"{name}.{kind}"] for kind in ("running_mean", "running_var")}
                x = functional.batch_norm(x, **own, training=training, momentum=momentum, eps=epsilon)
            case models.ReLU():
                x = functional.relu(x)
            case models.MaxPool(size=size):
                x = functional.max_pool2d(x, size)
            case models.Flatten():
                x = x.flatten(1)
            case models.Dense():
                x = functional.linear(x, **own)
            case models.Dropout(rate=rate):
                x = x * next(masks) / (1 - rate) if training else x
    return x


def _optimizer(workload: Workload, weights: list[Any]) -> Any:
    import torch

    own = workload.optimizer
    rate, decay = own.learning_rate, own.weight_decay
    if own.name == "sgd":
        return torch.optim.SGD(weights, rate, own.momentum, weight_decay=decay, nesterov=own.nesterov)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[own.name]
    return kind(weights, rate, own.betas, own.epsilon, decay)


def _state(optimizer: Any, weights: dict[str, Any]) -> dict[str, NDArray[Any]]:
    names = {"momentum_buffer": "momentum", "exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"}
    row: dict[str, NDArray[Any]] = {}
    steps: set[float] = set()
    for name, weight in weights.items():
        state = {key: value for key, value in optimizer.state[weight].items() if value is not None}
        row |= {f"{canonical}:{name}": state[key].numpy().copy() for key, canonical in names.items() if key in state}
        steps |= {float(state["step"])} if "step" in state else set()
    return row | ({"step": np.array(steps.pop())} if steps else {})


def _gradients(weights: dict[str, Any]) -> dict[str, NDArray[Any]]:
    return {
        name: np.zeros(weight.shape) if weight.grad is None else weight.grad.numpy().copy()
        for name, weight in weights.items()
    }


def _numpy(tensors: dict[str, Any]) -> dict[str, NDArray[Any]]:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}
