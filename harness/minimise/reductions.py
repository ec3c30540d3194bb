"""What can be taken out of a case: ranks, steps, features, layers, pixels, samples; each a list of smaller cases."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from harness.errors import SpecError
from harness.models import base as models
from harness.models import layered
from harness.record import Divergence
from harness.spec import Case, Optimizer, Schedule, Workload

# The smallest first; the first ones have no room for a convolution's neighbourhood or a pooling.
SHAPES = ((1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8))
MODELS = ("flatten-dense", "flatten-dense2-relu-dense")
WITH_BATCHNORM = ("flatten-bn-dense", "flatten-dense2-bn-relu-dense", "conv2-bn-flatten-dense")


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A smaller case, and in words what it lacks."""

    removed: str
    case: Case
    workload: Workload


Reduction = Callable[[Case, Workload, Divergence | None], Iterator[Candidate]]


def _changed(workload: Workload, **changes: Any) -> Workload:
    """Return a workload with other settings, of itself or (``check=``, ``optimizer=``) of a part."""
    parts = {
        name: msgspec.structs.replace(getattr(workload, name), **value) if isinstance(value, dict) else value
        for name, value in changes.items()
        if name in {"check", "optimizer"}
    }
    return msgspec.structs.replace(workload, **(changes | parts))


# -- ranks and steps -------------------------------------------------------------------------------------------------


def ranks(case: Case, workload: Workload, _seen: Divergence | None) -> Iterator[Candidate]:
    """Fewer ranks, down to two."""
    for size in range(2, case.world_size):
        smaller = msgspec.structs.replace(case, world_size=size)
        yield Candidate(removed=f"{case.world_size} ranks -> {size}", case=smaller, workload=workload)


def options(case: Case, workload: Workload, _seen: Divergence | None) -> Iterator[Candidate]:
    """Each option of the strategy by itself, at its default."""
    base, *words = case.strategy.split("+")
    for word in words:
        name = "+".join([base, *(other for other in words if other != word)])
        yield Candidate(removed=f"option {word}", case=msgspec.structs.replace(case, strategy=name), workload=workload)


def steps(case: Case, workload: Workload, seen: Divergence | None) -> Iterator[Candidate]:
    """Fewer steps: up to the one that differs, or else as few as may be."""
    check = workload.check
    wanted = {1, 2, 3, check.num_steps // 2, seen.step + 1 if seen else check.num_steps}
    for number in sorted(size for size in wanted if 1 <= size < check.num_steps):
        # A training that is interrupted needs a step before and one after.
        resumes = check.resume_at is not None and check.resume_at < number
        kept = {} if resumes else {"resume_at": None, "resume_ranks": None}
        yield Candidate(
            removed=f"{check.num_steps} steps -> {number}",
            case=case,
            workload=_changed(workload, check={"num_steps": number, **kept}),
        )


# -- features --------------------------------------------------------------------------------------------------------


def _without_momentum(workload: Workload) -> Workload:
    return _changed(workload, optimizer={"momentum": 0.0, "nesterov": False})


def _in_sgd(workload: Workload) -> Workload:
    plain = workload.optimizer.name == "sgd"
    return workload if plain else _changed(workload, optimizer=Optimizer(weight_decay=workload.optimizer.weight_decay))


def _in_float64(workload: Workload) -> Workload:
    return _changed(workload, check={"dtype": "float64"}, precision="full")


REMOVALS: dict[str, Callable[[Workload], Workload]] = {
    "dropout": lambda workload: _changed(workload, dropout=0.0),
    "augmentation": lambda workload: _changed(workload, augment="none"),
    "clipping": lambda workload: _changed(workload, clip_norm=None, clip_value=None),
    "accumulation": lambda workload: _changed(workload, accumulation=1),
    "schedule": lambda workload: _changed(workload, schedule=Schedule()),
    "frozen layers": lambda workload: _changed(workload, frozen=()),
    "interruption": lambda workload: _changed(workload, check={"resume_at": None, "resume_ranks": None}),
    "autocast and float32": _in_float64,
    "Adam": _in_sgd,
    "weight decay": lambda workload: _changed(workload, optimizer={"weight_decay": 0.0}),
    "Nesterov": lambda workload: _changed(workload, optimizer={"nesterov": False}),
    "momentum": _without_momentum,
    "seed": lambda workload: _changed(workload, seed=0),
    "what only timing uses": lambda workload: _changed(
        workload, global_batch=64, epochs=6, dtype="float32", num_samples=None
    ),
}


def features(case: Case, workload: Workload, _seen: Divergence | None) -> Iterator[Candidate]:
    """All features at once; then one by one."""
    bare, present = workload, []
    for name, remove in REMOVALS.items():
        if remove(bare) != bare:
            present.append(name)
            bare = remove(bare)
    if len(present) > 1:
        yield Candidate(removed=", ".join(present), case=case, workload=bare)
    for name in present:
        without = REMOVALS[name](workload)
        if without != workload:
            yield Candidate(removed=name, case=case, workload=without)


# -- layers ----------------------------------------------------------------------------------------------------------


def simpler_model(case: Case, workload: Workload, _seen: Divergence | None) -> Iterator[Candidate]:
    """A model of a few layers in its place; the same layers, to be taken out one by one; or smaller options."""
    if workload.model == "layered":
        return
    described = models.layers(workload)
    tiny = (*MODELS, *WITH_BATCHNORM) if models.has_batchnorm(described) else MODELS
    same = layered.written(described)
    for text in (*tiny, *([same] if same else [])):
        yield _layered(case, workload, text, f"model {workload.model} -> {text}")
    for name, value in workload.model_options.items():
        for number in _smaller(value) if isinstance(value, int) and not isinstance(value, bool) else ():
            smaller = _changed(workload, model_options={**workload.model_options, name: number})
            yield Candidate(removed=f"{name} {value} -> {number}", case=case, workload=smaller)


def layers(case: Case, workload: Workload, _seen: Divergence | None) -> Iterator[Candidate]:
    """Fewer layers, runs of many before single ones; then narrower ones."""
    if workload.model != "layered":
        return
    words = str(workload.model_options["layers"]).split("-")
    length = len(words) - 1  # the last one gives an output per class
    for size in sorted({length // 2, length // 4, 2, 1} - {0}, reverse=True):
        for start in range(length - size + 1):
            left = [*words[:start], *words[start + size :]]
            gone = "-".join(words[start : start + size])
            yield _layered(case, workload, "-".join(left), f"layers {gone}")
    for place, word in enumerate(words):
        kind = word.rstrip("0123456789")
        for number in _smaller(int(word[len(kind) :] or 0)) if kind in {"conv", "dense"} else ():
            narrower = [*words[:place], f"{kind}{number}", *words[place + 1 :]]
            yield _layered(case, workload, "-".join(narrower), f"{word} -> {kind}{number}")


def _layered(case: Case, workload: Workload, text: str, removed: str) -> Candidate:
    written = _changed(workload, model="layered", model_options={"layers": text})
    return Candidate(removed=removed, case=case, workload=written)


def _smaller(number: int) -> list[int]:
    return sorted({size for size in (1, 2, number // 2) if 1 <= size < number})


# -- pixels, classes, samples ----------------------------------------------------------------------------------------


def images(case: Case, workload: Workload, _seen: Divergence | None) -> Iterator[Candidate]:
    """Random images, as small as may be, of two classes."""
    synthetic = workload.dataset == "synthetic"
    for shape in SHAPES:
        if not synthetic or math.prod(shape) < math.prod(workload.shape):
            small = _changed(workload, dataset="synthetic", shape=shape)
            yield Candidate(removed=f"images -> {'x'.join(map(str, shape))}", case=case, workload=small)
    if not synthetic:
        yield Candidate(
            removed=f"dataset {workload.dataset}", case=case, workload=_changed(workload, dataset="synthetic")
        )
    elif workload.num_classes > 2:
        few = _changed(workload, num_classes=2)
        yield Candidate(removed=f"{workload.num_classes} classes -> 2", case=case, workload=few)


def samples(case: Case, workload: Workload, _seen: Divergence | None) -> Iterator[Candidate]:
    """Fewer samples in smaller batches; an epoch is one batch, or one and an uneven rest."""
    check = workload.check
    sizes = {1, 2, 3, 4, 6, 8, check.global_batch // 2, check.global_batch}
    rests = (0, 1, 2, 3)
    found = {(batch + rest, batch) for batch, rest in itertools.product(sizes, rests) if rest < batch}
    now = (check.num_samples, check.global_batch)
    for number, batch in sorted(pair for pair in found if pair < now and pair[1] <= now[1]):
        try:
            fewer = _changed(workload, check={"num_samples": number, "global_batch": batch})
        except SpecError:  # fewer samples than micro-batches
            continue
        yield Candidate(removed=f"{now[0]} samples -> {number}, batch {now[1]} -> {batch}", case=case, workload=fewer)
    if check.num_held_out > 1:
        yield Candidate(removed="held-out samples", case=case, workload=_changed(workload, check={"num_held_out": 1}))


REDUCTIONS: tuple[Reduction, ...] = (ranks, steps, features, simpler_model, layers, images, samples, options)
