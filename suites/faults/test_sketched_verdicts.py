"""Sketches tell what all values tell: the same conclusion at the same step and rung, with bugs and without."""

from __future__ import annotations

import msgspec
import pytest

from harness import Case, Check, Optimizer, Workload
from harness.record import Verdict
from harness.runner import Runner
from harness.spec import Fault

# Every weight of the model is sketched, and the largest bias.
ABOVE = 16
ADAMW = Optimizer(name="adamw", learning_rate=1e-3, weight_decay=1e-2)
SGD = Optimizer(name="sgd", learning_rate=0.05, momentum=0.9, weight_decay=1e-2)
pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]

PAIRS = [
    ("torch-ddp", "", SGD),
    ("torch-ddp", "sum-for-mean", ADAMW),
    ("torch-ddp", "stale-gradients", SGD),
    ("torch-ddp", "no-broadcast", SGD),
    ("torch-zero1", "", ADAMW),
    ("torch-zero1", "lost-momentum", SGD),
    ("torch-fsdp", "", ADAMW),
    ("torch-fsdp", "sum-for-mean", ADAMW),
    ("torch-fsdp", "regulariser-x-world", ADAMW),
    ("torch-tp", "", SGD),
    ("torch-tp", "sum-for-mean", SGD),
    ("torch-tp", "learning-rate-x-world", ADAMW),
    ("torch-pp", "", SGD),
    ("torch-pp", "lost-momentum", ADAMW),
]


def judged(runner: Runner, strategy: str, fault: str, trained: Workload, above: int | None) -> Verdict:
    check = msgspec.structs.replace(trained.check, sketch_above=above)
    trained = msgspec.structs.replace(trained, check=check)
    case = Case(workload=trained.name, strategy=strategy, world_size=2)
    return runner.verdict(case, trained, Fault(name=fault) if fault else None)


def alike(full: Verdict, sketched: Verdict) -> bool:
    """Whether both conclude the same, from the same rung and step, with the bug about as large in both."""
    one, other = full.divergence, sketched.divergence
    if one is None or other is None:
        return one is other and sketched.conclusion == full.conclusion
    same_place = (other.rung, other.step) == (one.rung, one.step)
    return same_place and 0.1 < other.times_threshold / one.times_threshold < 10


@pytest.mark.parametrize(("strategy", "fault", "optimizer"), PAIRS, ids=[f"{s}-{f or 'clean'}" for s, f, _ in PAIRS])
def test_sketches_give_the_verdict_that_all_values_give(
    strategy: str, fault: str, optimizer: Optimizer, ls_runner: Runner
) -> None:
    trained = Workload(name="sketched", model="mlp", dataset="digits", optimizer=optimizer)
    full, sketched = (judged(ls_runner, strategy, fault, trained, above) for above in (None, ABOVE))
    assert full.conclusion == ("different" if fault else "equivalent"), full
    assert alike(full, sketched), (full, sketched)


@pytest.mark.deepspeed
def test_so_they_do_in_float32_where_an_engine_gathers_its_shards(ls_runner: Runner) -> None:
    pytest.importorskip("deepspeed")
    trained = Workload(name="sketched", model="mlp", dataset="digits", optimizer=ADAMW, check=Check(dtype="float32"))
    fault = "learning-rate-x-world"
    full, sketched = (judged(ls_runner, "deepspeed-zero3", fault, trained, above) for above in (None, ABOVE))
    assert full.conclusion == "different", full
    assert alike(full, sketched), (full, sketched)
