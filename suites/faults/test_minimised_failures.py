"""Failures shrunk with real ranks, and scripts that show them in a Python without Lockstep."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness import Case, Verdict, Workload, workloads
from harness.minimise.script import Mutation, standalone
from harness.minimise.shrink import Minimised, shrink
from harness.models import base as models
from harness.record import Divergence
from harness.runner import Runner
from harness.spec import Check, Fault, Schedule, Setting
from harness.strategies import base as strategies

pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]
# What each bug is in plain code.
WRITTEN = {
    "sum-for-mean": Mutation(place="gradients", code="for p in model.parameters():\n    p.grad *= ranks"),
    "mean-of-means": Mutation(place="loss", code="nn.functional.cross_entropy(module(IMAGES[own]), LABELS[own])"),
}
TIMEOUT_S = 240.0


def minimised(runner: Runner, workload: Workload, strategy: str, bug: str = "", world_size: int = 2) -> Minimised:
    case = Case(workload=workload.name, strategy=strategy, world_size=world_size)
    return shrink(case, workload, Fault(name=bug) if bug else None, runner.verdict)


def ran(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script elsewhere, in a Python that does not see Lockstep."""
    assert "harness" not in script
    place = folder / "script.py"
    place.write_text(script)
    return subprocess.run(
        [sys.executable, "-P", str(place)], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def shown(found: Minimised, folder: Path, bug: str = "") -> str:
    """Return what the script of a minimised case says; it must exit with 1."""
    ended = ran(standalone(found.case, found.workload, found.verdict, WRITTEN.get(bug)), folder)
    assert ended.returncode == 1, ended
    return ended.stderr.strip().splitlines()[-1]


def test_a_sum_for_a_mean_is_shown_by_two_samples_and_one_layer(ls_runner: Runner) -> None:
    found = minimised(ls_runner, workloads.get("digits-cnn-adamw-clipped"), "torch-ddp", "sum-for-mean", world_size=3)
    check = found.workload.check
    assert found.finished
    assert (found.case.world_size, check.num_steps, check.num_samples) == (2, 1, 2)
    assert len(models.parameters(models.layers(found.workload))) == 2
    assert found.verdict.divergence is not None
    assert found.verdict.divergence.rung == "gradients before clipping"


def test_a_mean_of_means_needs_shares_of_different_sizes(ls_runner: Runner, tmp_path: Path) -> None:
    found = minimised(ls_runner, workloads.get("digits-mlp"), "torch-ddp", "mean-of-means")
    check = found.workload.check
    assert (found.case.world_size, check.num_samples, check.global_batch) == (2, 3, 3)
    assert shown(found, tmp_path, "mean-of-means").startswith("DIFFERENT: step")


def test_a_batch_norm_under_ddp_differs_from_plain_serial_training(ls_runner: Runner, tmp_path: Path) -> None:
    trained = Workload(
        name="normalised",
        model="layered",
        model_options={"layers": "conv4-bn-relu-pool2-flatten-dense8-bn-relu-dense"},
        dataset="digits",
        shape=(1, 8, 8),
        schedule=Schedule(gamma=0.5),
        accumulation=2,
    )
    found = minimised(ls_runner, trained, "torch-ddp")
    assert found.workload.model_options == {"layers": "flatten-bn-dense"}
    assert (found.workload.check.num_steps, found.workload.check.num_samples) == (1, 4)
    assert shown(found, tmp_path).startswith("DIFFERENT: step 0, loss of the batch")


def few_samples(layers: str) -> Workload:
    check = Check(num_samples=4, global_batch=4, num_steps=2, num_held_out=1)
    options: dict[str, Setting] = {"layers": layers}
    small = {"dataset": "synthetic", "shape": (1, 4, 4), "num_classes": 2, "check": check}
    return Workload(name="smallest", model="layered", model_options=options, **small)  # type: ignore[arg-type]


def test_the_script_of_a_sharded_strategy_shows_its_bug_and_nothing_without_it(tmp_path: Path) -> None:
    trained = few_samples("flatten-dense2-relu-dense")
    case = Case(workload=trained.name, strategy="torch-fsdp", world_size=2)
    first = Divergence(rung="loss", step=0, rank=0, tensor="loss", observed=1.0, floor=0.0, threshold=0.0)
    told = Verdict(conclusion="different", reason="as said", divergence=first)
    sound = ran(standalone(case, trained, told), tmp_path)
    assert (sound.returncode, sound.stdout) == (0, "EQUAL\n"), sound
    wrong = ran(standalone(case, trained, told, WRITTEN["sum-for-mean"]), tmp_path)
    assert wrong.returncode == 1
    assert "DIFFERENT: step 0, gradient" in wrong.stderr


def test_torchgpipe_updates_running_statistics_twice_where_it_checkpoints(ls_runner: Runner, tmp_path: Path) -> None:
    missing = strategies.get("torchgpipe").missing()
    if missing:
        pytest.skip(missing)
    trained = few_samples("flatten-bn-dense")
    case = Case(workload=trained.name, strategy="torchgpipe+checkpoint=always", world_size=2)
    told = ls_runner.verdict(case, trained)
    ended = ran(standalone(case, trained, told), tmp_path)
    assert ended.returncode == 1, ended
    assert "DIFFERENT: step 0, buffer 1.running_mean" in ended.stderr
    kept = Case(workload=trained.name, strategy="torchgpipe", world_size=2)
    sound = ran(standalone(kept, trained, told), tmp_path)
    assert (sound.returncode, sound.stdout) == (0, "EQUAL\n"), sound
