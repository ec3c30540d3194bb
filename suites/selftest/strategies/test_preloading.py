"""What a zygote has imported, its ranks need not: each import would be paid by every rank of every case."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from harness import workloads
from harness.launchers.local import Group, Pool
from harness.spec import Job
from harness.strategies import base as strategies
from harness.training import preload

RANK = """
import json, sys
from pathlib import Path
from harness.resolve import resolve

def train(job):
    before = set(sys.modules)
    traces = resolve(job.options["strategy"])(job)
    (Path(job.directory) / "imported.json").write_text(json.dumps(sorted(set(sys.modules) - before)))
    return traces
"""
# Small ones that come with reading a file, and the strategy itself, which only its ranks know.
FEW = 12


def test_a_torch_rank_imports_next_to_nothing_that_its_zygote_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    strategies.discover()
    (tmp_path / "counting_rank.py").write_text(RANK)
    monkeypatch.syspath_prepend(tmp_path)
    job = Job(
        function="counting_rank:train",
        strategy="torch-serial",
        workload=workloads.get("digits-mlp"),
        directory=str(tmp_path),
        cache=str(tmp_path / "datasets"),
        options={"strategy": strategies.get("torch-serial").function},
    )
    with contextlib.closing(Pool(preload)) as pool:
        pool.run([Group(family="torch", jobs=(job,))], timeout_s=60)
    imported = json.loads((tmp_path / "imported.json").read_text())
    heavy = [
        name for name in imported if name.startswith(("torch", "harness.loops", "harness.datasets", "numpy.typing"))
    ]
    assert not heavy
    assert len(imported) <= FEW, imported
