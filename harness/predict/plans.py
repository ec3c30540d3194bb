"""What a strategy's name says of a step, its options included: what is sent, in what pieces, and what is left out.

An option counts, is refused with the reason where no time can be said, or is named as not modelled. None is ignored in
silence.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from harness import workloads
from harness.errors import UsageError
from harness.predict import volumes
from harness.predict.prediction import Recompute
from harness.predict.volumes import BYTES, Scheme, Sizes
from harness.spec import Setting, Workload
from harness.strategies import base as strategies
from harness.strategies.options import written

# Stands in for a published model where a strategy checks the values of its options.
_ANY_WORKLOAD = "digits-mlp"
_HALF_BYTES = 2
_RECOMPUTE: dict[str, Recompute] = {"never": "never", "except_last": "except-last", "always": "always"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A strategy with its options, as far as the model knows them; ``not_modelled`` holds the words of the others.

    ``gradient_share`` is the share of the gradients' bytes that is sent, ``micro_batches`` None for one a rank.
    """

    name: str
    scheme: Scheme
    bucket_bytes: float
    overlap: bool = True
    gradient_share: float = 1.0
    micro_batches: int | None = None
    recompute: Recompute = "never"
    not_modelled: tuple[str, ...] = ()

    def sent(self, sizes: Sizes) -> Sizes:
        """Return a model's sizes with its gradients as they travel."""
        return dataclasses.replace(sizes, gradient_bytes=self.gradient_share * sizes.gradient_bytes)


def plan(name: str, workload: Workload | None = None) -> Plan:
    """Return what a strategy does in a step; ``workload`` is what it trains, None for a published model (float32).

    Raises:
        UnknownNameError: no such strategy or option, or one whose volume is not known.
        UsageError: an option cannot have this value, or one of which no time can be said.
    """
    scheme, declared = volumes.scheme(name), strategies.get(name)
    defaults = {key: option.default for key, option in declared.options.items()}
    chosen = {key: value for key, value in declared.chosen.items() if value != defaults[key]}
    # A pipeline's check is of a workload's own batches and layers; here those are asked for.
    if chosen and declared.check is not None and scheme != "pipeline":
        declared.check(workload or workloads.get(_ANY_WORKLOAD), 2, declared.chosen)
    found = Plan(
        name=declared.name,
        scheme=scheme,
        bucket_bytes=volumes.bucket_bytes(name),
        # DeepSpeed sends beside computing only where it is asked to (overlap_comm), stage 0 never.
        overlap=not name.startswith("deepspeed-"),
    )
    width = BYTES["float32" if workload is None else workload.dtype]
    for key, value in declared.chosen.items():
        changes = _changes(found, key, value, width)
        if changes is None and key in chosen:
            changes = {"not_modelled": (*found.not_modelled, f"{key}={written(value)}")}
        found = dataclasses.replace(found, **(changes or {}))
    return found


def _changes(found: Plan, key: str, value: Setting, width: int) -> dict[str, Any] | None:
    """Return what an option's value changes in a plan, None for an option that the model does not know."""
    changes: dict[str, Any] | None = None
    match key:
        case "bucket-mb" | "fusion-mb":
            if not value:
                raise UsageError(f"expected {key} above 0 but got 0: how many gradients there are is not known here")
            changes = {"bucket_bytes": float(value) * 2**20}
        case "bucket":
            changes = {"bucket_bytes": float(value) * width}
        case "overlap":
            changes = {"overlap": bool(value)}
        case "hook" | "compression":
            changes = {} if value == "none" else _compressed(found, key, value, width)
        case "stock" if value:
            raise UsageError("expected gradients that travel, but with 'stock' ranks train apart; leave it out")
        case "chunks":
            if int(value) < 0:
                raise UsageError(f"expected chunks of at least 1, or 0 for one a rank, but got {value}")
            changes = {"micro_batches": int(value) or None}
        case "checkpoint":
            changes = {"recompute": _RECOMPUTE[str(value)]}
    return changes


def _compressed(found: Plan, key: str, value: Setting, width: int) -> dict[str, Any]:
    """Return what gradients of two bytes each change; DistributedDataParallel cuts buckets before it compresses."""
    if value not in ("fp16", "bf16"):
        raise UsageError(
            f"expected fp16 or bf16 for {key} but got {value!r}: what it sends and computes depends on the shape of "
            "every layer, which this model does not hold"
        )
    share = _HALF_BYTES / width
    return {"gradient_share": share, "bucket_bytes": found.bucket_bytes * (share if key == "hook" else 1)}
