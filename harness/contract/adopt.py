"""A user's own function as a strategy: a ``train(job)``, a training step, or a wrapper of a model.

    train(job) -> traces                            a strategy, decorated with @strategy or not
    step(model, optimizer, inputs, labels) -> loss  a training step; may take clip_norm and accumulation besides
    wrap(model) -> module                           a wrapper, as DistributedDataParallel is one

Steps and wrappers know nothing of Lockstep; see ``harness.loops.torch_user``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from harness.errors import SpecError, UsageError
from harness.registry import imported, where
from harness.resolve import address
from harness.strategies import base as strategies
from harness.strategies.base import Strategy
from harness.strategies.options import Option

Shape = Literal["train", "step", "wrap"]
Framework = Literal["torch", "tensorflow"]
SERIAL = {"torch": "torch-serial", "tensorflow": "keras-serial"}
PACKAGES = {"torch": ("torch",), "tensorflow": ("tensorflow", "keras")}
BACKENDS: dict[str, dict[Any, str]] = {"torch": {"cpu": "gloo", "cuda": "nccl"}, "tensorflow": {"cpu": "grpc"}}
MODELS = ("model", "module", "net", "network")
STEP = ("model", "optimizer", "inputs", "labels")
# What a step may ask for besides, each with the feature of a workload that it takes part in.
SETTINGS = {"clip_norm": "clip-norm", "accumulation": "accumulation"}
# The option that holds the address of a step or wrapper.
_FUNCTION = "function"
SHAPES = "step(model, optimizer, inputs, labels) -> loss, wrap(model) -> module or train(job) -> traces"
NO_STEP = {
    "dropout": "masks of a dropout travel beside the inputs, which a plain step does not hand on",
    "clip-value": "a step is told of clip_norm only",
    "bf16": "autocast is the loop's, and a step is its own loop",
    "fp16": "autocast is the loop's, and a step is its own loop",
}


def adopt(function: str | Callable[..., Any], *, framework: Framework = "torch") -> Strategy:
    """Return the strategy that a function is, registered under its name, or the one that it has declared itself.

    Raises:
        UsageError: there is no such function, it is nested in another one, or it is neither step, wrapper nor strategy.
        BrokenPluginError: its module does not import.
        DuplicateNameError: another strategy has its name.
    """
    found = imported("function", _absolute(function)) if isinstance(function, str) else function
    place = address(found)
    known = next((one for one in strategies.strategies().values() if one.function == place), None)
    if known is not None:
        return known
    shape = shape_of(found)
    if shape != "train" and framework != "torch":
        raise UsageError(
            f"expected framework torch for the {shape} {found.__name__} but got {framework}; only a train(job) may use "
            "another one"
        )
    return strategies.declare(_declared(found, place, shape, framework), found)


def takes_function(declared: Strategy) -> bool:
    """Return whether a strategy stands for a step or a wrapper."""
    return _FUNCTION in declared.options


def shape_of(function: Callable[..., Any]) -> Shape:
    """Return what a function is taken for, by its parameters.

    Raises:
        SpecError: it is none of the three.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise SpecError(f"expected {SHAPES} but {function!r} tells no parameters: {error}") from error
    given = [p.name for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]
    own = [name for name in needed if name not in SETTINGS]
    if own == ["job"]:
        return "train"
    if len(own) == 1 and own[0] in MODELS:
        return "wrap"
    misplaced = any(name in own and own.index(name) != place for place, name in enumerate(STEP))
    if len(own) == len(STEP) == len(given[: len(STEP)]) and own == given[: len(STEP)] and not misplaced:
        return "step"
    raise SpecError(
        f"expected {SHAPES} but got {function.__name__}{inspect.signature(function)}; a step takes these four in this "
        f"order, and clip_norm and accumulation by name; a wrapper's parameter is called {' or '.join(MODELS)}"
    )


def _declared(function: Callable[..., Any], place: str, shape: Shape, framework: Framework) -> Strategy:
    taken = inspect.signature(function).parameters
    untaken = {feature: f"the step takes no {name}" for name, feature in SETTINGS.items() if name not in taken}
    options = {
        _FUNCTION: Option(meaning="the user's own function", default=place),
        "starts-equal": Option(meaning="ranks are handed equal weights, which nothing broadcasts", default=False),
    }
    adapter = {"step": "train_stepped", "wrap": "train_wrapped"}
    own = options if shape != "train" else {}
    return Strategy(
        name=function.__name__,
        function=place if shape == "train" else f"harness.loops.torch_user:{adapter[shape]}",
        where=where(function),
        summary=(function.__doc__ or "").strip().split("\n")[0],
        framework=framework,
        requires=PACKAGES[framework],
        backends=BACKENDS[framework],
        reference_of=SERIAL[framework],
        limits=NO_STEP | untaken if shape == "step" else {},
        gradients="where the optimizer is about to use them" if shape == "step" else ".grad after backward",
        options=own,
        chosen={key: option.default for key, option in own.items()},
        preload=(),
        # A step may keep what it made at its first call, such as a wrapper, which a second training would break.
        repeats=shape == "wrap",
        like="torch-ddp" if shape == "wrap" else "",
    )


def _absolute(place: str) -> str:
    """Return ``file.py:function`` with the whole path, which ranks find from any folder."""
    file, _, name = place.rpartition(":")
    return f"{Path(file).resolve()}:{name}" if file.endswith(".py") else place
