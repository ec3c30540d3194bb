"""Negative controls: every declared bug on every strategy that can express it, in part, and behind what could hide it.

bug x strategy                 under SGD with momentum and weight decay
bug x part x (DDP, FSDP)       one tensor, one rank, one step in ten, one element
bug x mask x (DDP, FSDP)       AdamW, clipping, a first epoch at rate 0, a neighbour that is not trained
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from harness import jobs
from harness.errors import SpecError
from harness.faults import base as faults
from harness.faults.base import Bug, Expected, Site
from harness.spec import Case, Fault, Optimizer, Schedule, Workload
from harness.strategies import base as strategies

Scale = Literal["quick", "full"]
# What every control trains unless its bug needs something else: the check's third batch is uneven, and ends an epoch.
BASE = Workload(
    name="control",
    model="mlp",
    dataset="digits",
    shape=(1, 8, 8),
    optimizer=Optimizer(name="sgd", learning_rate=0.05, momentum=0.9, weight_decay=1e-2),
)
ADAMW = Optimizer(name="adamw", learning_rate=1e-3, weight_decay=1e-2)
# What hides bugs from one rung or another.
MASKS: Mapping[str, Mapping[str, Any]] = {
    "adamw": {"optimizer": ADAMW},
    "adamw-clipped": {"optimizer": ADAMW, "clip_norm": 0.1},
    "warm-up": {"schedule": Schedule(warmup=1)},
    "frozen-neighbour": {"frozen": ("dense2",)},
}
# Where parts and masks are tried: gradients whole on every rank, and in pieces.
CLOSELY = ("torch-ddp", "torch-fsdp")
# Two ranks, unless a strategy needs more of them to be what it is.
NUM_RANKS = {"torch-hsdp": 4, "torch-fsdp-tp": 4, "torch-ddp-pp": 4}
# Of so many controls the quick scale takes one.
EVERY = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """A case with a bug in it, and where that must show; ``part`` and ``mask`` are empty for the plain bug."""

    fault: Fault
    case: Case
    workload: Workload
    expected: Expected
    part: str = ""
    mask: str = ""

    @property
    def name(self) -> str:
        """The fault, and in which part of the training: ``sum-for-mean[one tensor]``."""
        return f"{self.fault.name}[{self.part}]" if self.part else self.fault.name

    @property
    def id(self) -> str:
        """For example ``sum-for-mean[one tensor]/torch-fsdp/2/adamw-clipped``."""
        words = (self.name, self.case.strategy, str(self.case.world_size), self.mask)
        return "/".join(word for word in words if word)


def controls(scale: Scale = "full") -> tuple[Control, ...]:
    """Return the controls in the order of the strategies, so that those of one framework lie side by side."""
    found = [control for name in _names() for declared in faults.bugs().values() for control in _of(declared, name)]
    return tuple(found if scale == "full" else _everyday(found))


def table() -> list[list[str]]:
    """Return a row for each fault, below a heading: its class, what it does, and the strategies that can express it."""
    declared = sorted(faults.bugs().values(), key=lambda own: (own.entry, own.name))
    rows = [[str(own.entry), own.name, own.summary, " ".join(own.on)] for own in declared]
    return [["class", "fault", "what it does", "on"], *rows]


def left_out() -> dict[str, str]:
    """Return by id (``bug/strategy/ranks``) why a declared pair of bug and strategy is no control."""
    reasons = {}
    for name in _names():
        for declared in faults.bugs().values():
            if name in declared.on:
                made = _made(declared, name)
                if isinstance(made, str):
                    reasons[f"{declared.name}/{name}/{_num_ranks(name)}"] = made
    return reasons


def clean(chosen: Iterable[Control]) -> tuple[tuple[Case, Workload], ...]:
    """Return the cases of ``chosen`` without their faults, each once: these must be equivalent."""
    return tuple({control.case.id: (control.case, control.workload) for control in chosen}.values())


def _names() -> tuple[str, ...]:
    """Return the strategies, each followed by the options that a bug takes."""
    plain = [name for name, strategy in strategies.strategies().items() if not strategy.serial]
    optioned = {name for declared in faults.bugs().values() for name in declared.on if "+" in name}
    return tuple(name for own in plain for name in (own, *sorted(o for o in optioned if o.startswith(f"{own}+"))))


def _num_ranks(strategy: str) -> int:
    return NUM_RANKS.get(strategy.partition("+")[0], 2)


def _of(declared: Bug, strategy: str) -> Iterator[Control]:
    """Yield the controls of one bug on one strategy; those that need the same training are told once."""
    if strategy not in declared.on:
        return
    variants: list[tuple[str, str]] = [("", "")]
    plain = _made(declared, strategy)
    # A rank that dies does so whatever it trains.
    if strategy in CLOSELY and not (isinstance(plain, Control) and plain.expected.failure):
        variants += [(part, "") for part in declared.partial]
        variants += [("", mask) for mask in MASKS]
    known = set()
    for part, mask in variants:
        made = _made(declared, strategy, part, mask)
        if isinstance(made, Control) and (part, made.workload.name) not in known:
            known.add((part, made.workload.name))
            yield made


def _made(declared: Bug, strategy: str, part: str = "", mask: str = "") -> Control | str:
    """Return one control, or why there is none."""
    fault = Fault(name=declared.name, settings=dict(declared.partial[part]) if part else {})
    workload = _named({**MASKS.get(mask, {}), **declared.needs})
    case = Case(workload=workload.name, strategy=strategy, world_size=_num_ranks(strategy))
    try:
        jobs.validate(case, workload, strategies.get(strategy))
    except SpecError as refused:
        return str(refused)
    site = Site(workload=workload, strategy=strategy, world_size=case.world_size, settings=fault.settings)
    why = faults.refusal(fault, site)
    if why:
        return why
    expected = faults.expected(fault, site)
    return Control(fault=fault, case=case, workload=workload, expected=expected, part=part, mask=mask)


def _named(settings: Mapping[str, Any]) -> Workload:
    """Return the base workload with other settings; one name for one content, so that references are shared."""
    workload = msgspec.structs.replace(BASE, **settings)
    return msgspec.structs.replace(workload, name=f"control-{workload.digest}")


def _everyday(found: Iterable[Control]) -> Iterator[Control]:
    """Yield every bug and its parts on the first strategy that it names, and of all else of a strategy an even part."""
    others: Counter[str] = Counter()
    for control in found:
        name = control.case.strategy
        if name == faults.get(control.fault.name).on[0] and not control.mask:
            yield control
            continue
        if others[name] % EVERY == 0:
            yield control
        others[name] += 1
