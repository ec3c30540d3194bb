"""Imports go one way: every module of the harness imports from the rows above its own only."""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import harness

PACKAGE = Path(harness.__file__).parent
# A row imports from rows above it; what stands in one row does not know of each other. Inside a folder, imports may go
# any way that is no circle. Imports inside functions count, too: they spare time, not knowledge.
ROWS: tuple[tuple[str, ...], ...] = (
    ("errors", "stage"),
    ("resolve", "scratch", "appending"),
    ("registry", "spec"),
    ("timings",),
    ("record",),
    ("sketches", "claims", "decoding", "processes"),
    ("plan", "recorder", "wire", "store", "kept"),
    ("draws", "fuzz", "models", "measure", "activations"),
    ("datasets", "features", "history"),
    ("faults",),
    ("oracles", "loops", "referee"),
    ("strategies", "workloads", "report"),
    ("shipped", "contract", "course"),
    ("worker",),
    ("launchers",),
    ("support", "legs", "horovod_build"),
    ("cases", "jobs", "mutants", "trials"),
    ("evidence",),
    ("training",),
    ("runner", "controls"),
    ("timer",),
    ("session",),
    ("injection",),
    ("parametrisation", "progress", "scheduling", "interrupts"),
    ("options",),
    ("journalist",),
    ("plugin",),
    ("doctor", "matrix", "check", "minimise", "predict", "compare"),
    ("cli",),
    ("__main__",),
)
FRAMEWORKS = {"torch", "torchvision", "tensorflow", "keras", "horovod", "torchgpipe", "deepspeed", "pyvelox"}
# Needed for a report or a dataset, and slow to import.
LATE = {"pandas", "sklearn", "scipy", "jinja2", "xdist"}

Imports = Mapping[str, Sequence[str]]


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of every module, by its name inside the package; a folder's own file is the folder."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text())
    del found[""]  # harness/__init__.py names the public things of all rows
    return found


@functools.cache
def imported(tree: ast.AST) -> tuple[tuple[str, bool], ...]:
    """Return each module that is imported somewhere, with whether that happens when the importing module is loaded."""
    late = {inner for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)}
    typing = {inner for node in ast.walk(tree) if _for_typing(node) for inner in ast.walk(node)}
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if node in typing:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, node not in late) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides the row it comes from"
            found += [(f"{node.module}.{alias.name}", node not in late) for alias in node.names]
    return tuple(found)


def _for_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports() -> dict[str, list[str]]:
    """Return which modules of the harness each of them imports."""
    every = modules()
    found: dict[str, list[str]] = {}
    for name, tree in every.items():
        inner = [module.removeprefix("harness.") for module, _ in imported(tree) if module.startswith("harness.")]
        # "record.Trace" is a thing in record, "datasets.base" a module.
        found[name] = [module if module in every else module.rpartition(".")[0] for module in inner]
    return found


def violations(graph: Imports, rows: Sequence[Sequence[str]]) -> list[str]:
    """Return each import that goes sideways or down."""
    row = {unit: number for number, units in enumerate(rows) for unit in units}
    pairs = {
        (module, module.partition(".")[0], target.partition(".")[0])
        for module, targets in graph.items()
        for target in targets
    }
    return [
        f"{module} (row {row[own]}) imports {unit} (row {row[unit]})"
        for module, own, unit in sorted(pairs)
        if own != unit and row[unit] >= row[own]
    ]


def test_every_module_has_its_row() -> None:
    units = [unit for row in ROWS for unit in row]
    assert len(units) == len(set(units))
    assert {module.partition(".")[0] for module in modules()} == set(units)


def test_imports_go_up_only() -> None:
    assert violations(imports(), ROWS) == []


@pytest.mark.parametrize(
    ("module", "target"), [("spec", "record"), ("oracles.parity", "loops.torch_loop"), ("store", "cli")]
)
def test_an_import_that_goes_down_or_sideways_is_found(module: str, target: str) -> None:
    graph = imports()
    graph[module] = [*graph[module], target]
    (told,) = violations(graph, ROWS)
    assert told.startswith(module)


def test_nothing_imports_the_public_face() -> None:
    # It imports everything: whoever imports it is imported by it.
    assert [name for name, targets in imports().items() if "" in targets] == []


def test_no_circles() -> None:
    graph = {name: set(targets) - {name} for name, targets in imports().items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)
    graph["errors"] = {"plugin"}
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()


def test_frameworks_are_imported_by_loops_and_inside_functions_only() -> None:
    early = {
        name
        for name, tree in modules().items()
        for module, at_load in imported(tree)
        if at_load and module.partition(".")[0] in FRAMEWORKS | LATE
    }
    assert {name for name in early if not name.startswith("loops.")} <= {"report.html.page"}
    assert {name.partition(".")[0] for name in early} >= {"loops"}


def test_only_what_trains_or_builds_knows_a_framework() -> None:
    knowing = {
        name.partition(".")[0]
        for name, tree in modules().items()
        for module, _ in imported(tree)
        if module.partition(".")[0] in FRAMEWORKS
    }
    assert knowing <= {"loops", "strategies", "faults", "launchers", "horovod_build"}
