"""Random small trainings: a workload, an exact strategy, a number of ranks; drawn so that small ones come first."""

from __future__ import annotations

import shlex
from typing import Any, Literal

from hypothesis import assume
from hypothesis import strategies as st

from harness import jobs, workloads
from harness.errors import SpecError
from harness.spec import Case, Check, Optimizer, Schedule, Workload
from harness.strategies import base as strategies
from harness.strategies.base import Strategy

MODELS: dict[str, dict[str, st.SearchStrategy[int]]] = {
    "mlp": {"width": st.integers(2, 24), "depth": st.integers(1, 4)},
    "simple-cnn": {"width": st.integers(1, 6)},
    "tied-mlp": {},
}


def exact_torch_strategies() -> list[Strategy]:
    """Return the parallel PyTorch strategies that must equal serial, variants included, as far as this machine can."""
    found = []
    for declared in strategies.strategies().values():
        for strategy in (declared, *strategies.variants(declared).values()):
            parallel = not strategy.serial and strategy.equality == "exact" and "cpu" in strategy.backends
            spread = any(size > 1 for size in strategy.world_sizes)
            exact = "float64" in strategy.dtypes and strategy.reference_of == "torch-serial"
            if parallel and spread and exact and strategy.missing() is None:
                found.append(strategy)
    return found


@st.composite
def optimizers(draw: st.DrawFn) -> Optimizer:
    """Draw an optimizer whose first steps neither stand still nor blow up."""
    names: tuple[Literal["sgd", "adam", "adamw"], ...] = ("sgd", "adam", "adamw")
    name = draw(st.sampled_from(names))
    decay = draw(st.sampled_from((0.0, 1e-3)))
    if name != "sgd":
        return Optimizer(name=name, learning_rate=draw(st.sampled_from((1e-3, 1e-2))), weight_decay=decay)
    momentum = draw(st.sampled_from((0.0, 0.5, 0.9)))
    return Optimizer(
        learning_rate=draw(st.sampled_from((0.05, 0.01))),
        momentum=momentum,
        nesterov=momentum > 0 and draw(st.booleans()),
        weight_decay=decay,
    )


@st.composite
def trained(draw: st.DrawFn) -> Workload:
    """Draw a workload on random images."""
    model = draw(st.sampled_from(sorted(MODELS)))
    batch = draw(st.integers(8, 24))
    clip = draw(st.sampled_from(("none", "norm", "value")))
    num_steps = draw(st.integers(2, 6))
    return Workload(
        name="drawn",
        model=model,
        model_options={name: draw(values) for name, values in MODELS[model].items()},
        dataset="synthetic",
        optimizer=draw(optimizers()),
        schedule=Schedule(gamma=draw(st.sampled_from((1.0, 0.5))), every=draw(st.integers(1, 2))),
        accumulation=draw(st.sampled_from((1, 2, 4))),
        clip_norm=0.1 if clip == "norm" else None,
        clip_value=0.01 if clip == "value" else None,
        frozen=draw(st.sampled_from(((), ("dense1",)))),
        dropout=draw(st.sampled_from((0.0, 0.25))),
        augment=draw(st.sampled_from(("none", "shift"))),
        seed=draw(st.integers(0, 3)),
        num_samples=160,
        shape=draw(st.sampled_from(((1, 4, 4), (1, 8, 8), (3, 6, 5)))),
        num_classes=draw(st.integers(2, 7)),
        check=Check(
            num_samples=batch + draw(st.integers(1, batch)),
            global_batch=batch,
            num_steps=num_steps,
            num_held_out=draw(st.integers(5, 16)),
            resume_at=draw(st.one_of(st.none(), st.integers(1, num_steps - 1))),
        ),
    )


@st.composite
def trainings(draw: st.DrawFn, only: str | None = None) -> tuple[Case, Workload]:
    """Draw a case that can run, of every strategy or ``only`` of one."""
    strategy = strategies.get(only) if only else draw(st.sampled_from(exact_torch_strategies()))
    workload = draw(trained())
    case = Case(
        workload=workload.name,
        strategy=strategy.name,
        world_size=draw(st.sampled_from([size for size in strategy.world_sizes if size > 1])),
    )
    assume(possible(case, workload, strategy))
    return case, workload


def possible(case: Case, workload: Workload, strategy: Strategy) -> bool:
    """Whether the case can run; what cannot is refused before any rank starts."""
    try:
        jobs.validate(case, workload, strategy)
    except SpecError:
        return False
    return True


def command(case: Case, workload: Workload, *more: Any) -> str:
    """Return what runs exactly this case again."""
    words = ["pytest", "suites/conformance/test_parity.py", f"--ls-strategy={case.strategy}"]
    words += [f"--ls-workload={workloads.as_json(workload)}", f"--ls-world-size={case.world_size}", *map(str, more)]
    return shlex.join([*words, f"--ls-device={case.device}"])
