"""The features of a training that a strategy may or may not support, derived from its workload."""

from __future__ import annotations

from collections.abc import Mapping

from harness.models import base as models
from harness.spec import Workload

# Every feature by name, in the order of reports, with what a workload that has it does.
FEATURES: Mapping[str, str] = {
    "sgd": "stochastic gradient descent without momentum",
    "momentum": "SGD with momentum",
    "nesterov": "SGD with Nesterov momentum",
    "adam": "Adam",
    "adamw": "Adam with decoupled weight decay",
    "weight-decay": "weight decay above 0",
    "exponential-schedule": "a learning rate that decays every epoch",
    "step-schedule": "a learning rate that decays every few epochs",
    "clip-norm": "gradients clipped by their global norm",
    "clip-value": "gradients clipped element by element",
    "accumulation": "several micro-batches to an optimizer step",
    "dropout": "dropout, its masks drawn by sample",
    "augmentation": "augmentation, drawn by sample",
    "batch-norm": "batch normalisation",
    "uneven-batch": "a last batch that is smaller than the others",
    "frozen": "layers that are not trained",
    "tied-weights": "one tensor used by several layers",
    "routed": "layers that only some samples use",
    "blocks": "a model made of PyTorch modules: torchvision's, transformers",
    "bf16": "forward and backward under bfloat16 autocast",
    "fp16": "forward and backward under float16 autocast, with a loss scaler",
    "resume": "saved and resumed on as many ranks",
    "resume-resized": "saved and resumed on another number of ranks",
}


def features(workload: Workload) -> tuple[str, ...]:
    """Return the features that a workload's equality check has, in the order of FEATURES."""
    optimizer, schedule, check = workload.optimizer, workload.schedule, workload.check
    layers = models.layers(workload)
    sgd = optimizer.name == "sgd"
    has = {
        "sgd": sgd and optimizer.momentum == 0,
        "momentum": sgd and optimizer.momentum > 0 and not optimizer.nesterov,
        "nesterov": sgd and optimizer.nesterov,
        "adam": optimizer.name == "adam",
        "adamw": optimizer.name == "adamw",
        "weight-decay": optimizer.weight_decay > 0,
        "exponential-schedule": schedule.gamma != 1 and schedule.every == 1,
        "step-schedule": schedule.gamma != 1 and schedule.every > 1,
        "clip-norm": workload.clip_norm is not None,
        "clip-value": workload.clip_value is not None,
        "accumulation": workload.accumulation > 1,
        "dropout": bool(models.dropout_sites(layers)),
        "augmentation": workload.augment != "none",
        "batch-norm": models.has_batchnorm(layers),
        "uneven-batch": check.num_samples % check.global_batch > 0,
        "frozen": bool(workload.frozen),
        "tied-weights": models.has_tied_weights(layers),
        "routed": models.has_routes(layers),
        "blocks": models.has_blocks(layers),
        "bf16": workload.precision == "bf16",
        "fp16": workload.precision == "fp16",
        "resume": check.resume_at is not None and check.resume_ranks is None,
        "resume-resized": check.resume_ranks is not None,
    }
    assert list(has) == list(FEATURES), "the same features, in the same order"
    return tuple(name for name, present in has.items() if present)
