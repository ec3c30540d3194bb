"""What `from harness import ...` offers, and that every public thing says what it is."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.errors import HarnessError

PACKAGE = Path(harness.__file__).parent
FRAMEWORKS = ("torch", "tensorflow", "keras", "horovod", "torchgpipe", "pandas", "sklearn", "scipy", "jinja2")


def test_the_public_names_are_there_and_no_others() -> None:
    public = "strategy workload Workload Optimizer Schedule Check Case Job Trace Verdict Record address load"
    assert list(harness.__all__) == public.split()
    names: dict[str, object] = {}
    exec("from harness import *", names)
    assert set(harness.__all__) <= set(names)


@pytest.mark.parametrize("name", harness.__all__)
def test_a_public_name_is_documented(name: str) -> None:
    documented = inspect.getdoc(getattr(harness, name))
    assert documented
    first = documented.split("\n\n")[0]
    assert first.endswith((".", ":")), first


def undocumented(tree: ast.Module, path: str) -> list[str]:
    """Return the public classes and functions of a module that have no docstring."""
    told = [] if ast.get_docstring(tree) else [path]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            inner = [n for n in node.body if isinstance(n, ast.FunctionDef)]
            told += [f"{path}:{node.name}"] * (ast.get_docstring(node) is None)
            told += [f"{path}:{node.name}.{n.name}" for n in inner if n.name[0] != "_" and not ast.get_docstring(n)]
    tops = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
    return told + [f"{path}:{node.name}" for node in tops if not ast.get_docstring(node)]


def test_every_public_class_and_function_is_documented() -> None:
    told = [
        name
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in undocumented(ast.parse(path.read_text()), str(path.relative_to(PACKAGE)))
    ]
    assert told == []


def test_a_missing_docstring_is_found() -> None:
    source = '"""A module."""\nclass A:\n    """A class."""\n    def method(self): ...\ndef function(): ...\n'
    assert undocumented(ast.parse(source), "m.py") == ["m.py:A.method", "m.py:function"]


def test_importing_the_plugin_imports_no_framework() -> None:
    program = f"import sys, harness.plugin; print([name for name in {FRAMEWORKS} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert done.stdout.strip() == "[]"


def test_load_tells_a_run_that_is_not_there_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="unknown run"):
        harness.load(str(tmp_path / "nothing"))
