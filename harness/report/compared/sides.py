"""What is compared: a run, or the cases of one strategy in it, and which case of one side meets which of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import history, store
from harness.errors import UnknownNameError, UsageError
from harness.record import Record
from harness.report import words
from harness.spec import Value
from harness.store import Run, merge

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# It says nothing of why a case changed, and never is the same twice.
_FLEETING = frozenset({"load_average"})
# So many digits tell commits apart.
_COMMIT = 12
GROUPS = ("machine", "versions", "settings", "code", "other")


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """A run, or of it the cases of ``strategy`` alone: one record a case, without injected faults."""

    run: Run
    strategy: str
    cases: tuple[Record, ...]


class Side(Value, frozen=True, kw_only=True):
    """One side of a comparison; ``letter`` is its name there, ``machine`` what it ran on in a line."""

    letter: str
    id: str
    label: str
    strategy: str = ""
    started: str = ""
    commit: str = ""
    machine: str = ""
    num_cases: int = 0
    losses: tuple[str, ...] = ()


class Fact(Value, frozen=True, kw_only=True):
    """Something of the environment in which sides differ: a value a side; ``group`` is one of GROUPS."""

    name: str
    group: str
    values: tuple[str, ...]


def chosen(run: Run, strategy: str = "") -> Selected:
    """Return a run, or of it one strategy, as a side."""
    cases = (record for record in merge(run.records) if record.fault is None)
    return Selected(run=run, strategy=strategy, cases=tuple(case for case in cases if strategy in ("", case.strategy)))


def select(name: str, report_dir: str | Path = store.REPORT_DIR) -> Selected:
    """Return what ``RUN`` or ``RUN:STRATEGY`` names.

    Raises:
        UnknownNameError: no such run, or it has no such strategy; StoreError: it cannot be read.
    """
    run_name, colon, strategy = name.rpartition(":")
    if not colon or Path(name).exists():
        return chosen(store.read(name, report_dir))
    run = store.read(run_name, report_dir)
    known = {record.strategy for record in run.records}
    if strategy not in known:
        raise UnknownNameError(f"strategy in run {run.info.id}", strategy, known)
    return chosen(run, strategy)


def are_programs(sides: Sequence[Selected]) -> bool:
    """Return whether the sides are different strategies, which are two programs and not one that changed.

    Raises:
        UsageError: some sides name a strategy and others do not, or there are too few or too many of them.
    """
    if not 2 <= len(sides) <= len(LETTERS):
        raise UsageError(f"expected 2 to {len(LETTERS)} sides but got {len(sides)}; name at least two runs")
    if len({bool(side.strategy) for side in sides}) > 1:
        got = ", ".join(side.strategy or "none" for side in sides)
        raise UsageError(f"expected a strategy on each side or on none but got {got}; write RUN:STRATEGY for each")
    return len({side.strategy for side in sides}) > 1


def paired(side: Selected, *, programs: bool) -> dict[str, Record]:
    """Return the cases of a side by the name under which they meet: a case's id, or that without its strategy."""
    return {f"{case.workload}/{case.world_size}/{case.device}" if programs else case.case: case for case in side.cases}


def describe(side: Selected, letter: str, num_cases: int) -> Side:
    """Return a side for people."""
    facts = environment(side.run)
    info = side.run.info
    return Side(
        letter=letter,
        id=info.id,
        label=f"{info.id}, {side.strategy}" if side.strategy else info.id,
        strategy=side.strategy,
        started=info.started,
        commit=str(facts.get("commit", ""))[:_COMMIT],
        machine=machine(facts),
        num_cases=num_cases,
        losses=side.run.losses,
    )


def environment(run: Run) -> Mapping[str, str | float | int]:
    """Return where a run took place; of one whose run.json is lost what its first record says of itself."""
    return run.info.environment or next((record.environment for record in run.records if record.environment), {})


def machine(facts: Mapping[str, str | float | int]) -> str:
    """Return a machine in a line: ``NVIDIA H200, AMD EPYC 9B14, 16 cores``."""
    told = [str(facts[name]) for name in ("gpu_model", "cpu_model") if facts.get(name)]
    cores = facts.get("num_cores")
    return ", ".join([*told, words.count(cores, "core")] if isinstance(cores, int) else told)


def differences(sides: Sequence[Selected]) -> tuple[Fact, ...]:
    """Return in what the sides' environments differ, the machine first."""
    every = [environment(side.run) for side in sides]
    found = []
    for name in sorted({name for facts in every for name in facts} - _FLEETING):
        values = [facts.get(name) for facts in every]
        if len(set(map(str, values))) > 1:
            told = tuple(words.NOTHING if value is None else words.fact(name, value)[1] for value in values)
            if len(set(told)) == 1:  # what rounding hides
                told = tuple(map(str, values))
            if name == "commit" and len(set(short := tuple(value[:_COMMIT] for value in told))) == len(set(told)):
                told = short
            found.append(Fact(name=words.fact(name, "")[0], group=_group(name), values=told))
    return tuple(sorted(found, key=lambda fact: GROUPS.index(fact.group)))


def _group(name: str) -> str:
    return history.kind(name) or {"commit": "code", "memory_bytes": "machine"}.get(name, "other")
