"""From a case to its verdict, with ranks that need no framework."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from harness import scratch, workloads
from harness import training as module
from harness.errors import MissingRequirementError, SpecError, StoreError
from harness.launchers.local import Pool, RankFailure
from harness.record import Verdict
from harness.runner import Runner
from harness.spec import Case, Workload
from harness.strategies import base as strategies
from harness.training import Settings

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with contextlib.closing(Pool(lambda _family: ())) as shared:
        yield shared


@pytest.fixture
def numpy_strategies(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The strategies of fixtures/, registered for one test."""
    monkeypatch.syspath_prepend(FIXTURES)
    monkeypatch.delitem(sys.modules, "numpy_strategies", raising=False)
    with strategies._registry.passing(), workloads._registry.passing():
        yield importlib.import_module("numpy_strategies")
    sys.modules.pop("numpy_strategies", None)


@pytest.fixture
def runner(tmp_path: Path, pool: Pool, numpy_strategies: ModuleType) -> Runner:
    for name in ("sum", "raises", "dies"):
        numpy_strategies.misbehaving(name)
    return Runner(Settings(scratch=tmp_path, timeout_s=30.0), pool)


def case(strategy: str = "numpy-mean", world_size: int = 2, workload: str = "tiny") -> Case:
    return Case(workload=workload, strategy=strategy, world_size=world_size)


def arrays(runner: Runner) -> set[Path]:
    return set((runner.settings.scratch / "cases").rglob("*.npy"))


def num_trainings(runner: Runner) -> int:
    return len(list((runner.settings.scratch / "cases").iterdir()))


def test_an_equivalent_case_is_judged_on_every_rung_that_is_shown(runner: Runner) -> None:
    verdict = runner.verdict(case())
    assert verdict.equivalent, verdict
    assert {rung.rung for rung in verdict.rungs} == {
        "data order",
        "loss",
        "gradients before clipping",
        "optimizer state",
        "parameters",
        "predictions",
    }
    assert verdict.num_tensors == 2


def test_a_bug_is_found_where_it_acts_first(runner: Runner) -> None:
    verdict = runner.verdict(case("numpy-sum"))
    assert verdict.conclusion == "different"
    assert verdict.divergence is not None
    assert (verdict.divergence.rung, verdict.divergence.step) == ("gradients before clipping", 0)


def test_a_case_is_judged_once_and_its_references_serve_the_next_one(runner: Runner) -> None:
    first = runner.verdict(case())
    after_first = num_trainings(runner)
    assert after_first == 5  # the ranks share one folder; the reference, once more, and two reruns have one each
    assert runner.verdict(case()) is first
    assert num_trainings(runner) == after_first
    runner.verdict(case("numpy-sum"))
    assert num_trainings(runner) == after_first + 1


def test_another_worker_of_the_run_finds_the_references(runner: Runner, pool: Pool) -> None:
    runner.verdict(case())
    before = num_trainings(runner)
    other = Runner(runner.settings, pool)
    assert other.verdict(case()).equivalent
    assert num_trainings(runner) == before + 1


def test_another_workload_of_the_same_name_is_another_case(runner: Runner) -> None:
    tiny = workloads.get("tiny")
    assert runner.verdict(case(), tiny).equivalent
    other = runner.verdict(case(), msgspec.structs.replace(tiny, seed=5))
    assert other.equivalent
    assert other.margin != runner.verdict(case(), tiny).margin


def test_of_a_judged_case_only_the_references_arrays_stay(runner: Runner) -> None:
    runner.verdict(case())
    assert {path.parent.name.rpartition("-")[0] for path in arrays(runner)} == {"numpy-mean"}
    kept = {Path(rung.file) for trace in runner.trainings.kept._memory.values() for rung in trace.rungs.values()}
    assert arrays(runner) == kept


def test_where_room_is_scarce_only_the_references_of_the_case_are_kept(
    runner: Runner, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "scarce", lambda _folder: True)
    tiny = workloads.get("tiny")
    runner.verdict(case())
    runner.verdict(case("numpy-sum"))
    first = arrays(runner)
    assert len(first) == 4 * 6, "a reference, the same once more and two reruns, six rungs each"
    runner.verdict(case(), msgspec.structs.replace(tiny, seed=5))
    assert len(arrays(runner)) == 4 * 6
    assert not arrays(runner) & first
    # What another worker may want stays.
    shared = Runner(dataclasses.replace(runner.settings, shared=True), pool)
    shared.verdict(case(), msgspec.structs.replace(tiny, seed=6))
    assert len(arrays(runner)) == 8 * 6


def test_a_single_rank_is_equal_and_yet_not_verified(runner: Runner) -> None:
    verdict = runner.verdict(case(world_size=1))
    assert verdict.conclusion == "not-verified"
    assert verdict.reason.startswith("one rank is no parallelism")


def test_a_failing_rank_is_named_and_the_next_case_runs(runner: Runner) -> None:
    with pytest.raises(RankFailure, match="numpy-dies rank 1 exited with code 3"):
        runner.verdict(case("numpy-dies"))
    assert arrays(runner) == set(), "the arrays of a failed case are in nobody's interest"
    assert runner.verdict(case()).equivalent


def test_a_failure_is_told_again_without_running_again(runner: Runner) -> None:
    with pytest.raises(RankFailure) as first:
        runner.verdict(case("numpy-raises"))
    before = num_trainings(runner)
    with pytest.raises(RankFailure) as second:
        runner.verdict(case("numpy-raises"))
    assert second.value is first.value
    assert num_trainings(runner) == before


def test_a_case_that_cannot_run_starts_no_rank(runner: Runner) -> None:
    with pytest.raises(SpecError, match="use fewer ranks"):
        runner.verdict(case(world_size=9))
    assert not (runner.settings.scratch / "cases").exists()


def test_an_alarm_in_float32_alone_is_neither_a_bug_nor_a_pass(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    conclusions = {"float32": "different", "float64": "equivalent"}

    def judge(_runner: Runner, _case: Case, workload: Workload, _fault: object) -> Verdict:
        asked.append(workload.check.dtype)
        conclusion = conclusions[workload.check.dtype]
        return msgspec.convert({"conclusion": conclusion, "reason": f"in {workload.check.dtype}"}, Verdict)

    monkeypatch.setattr(Runner, "judge_once", judge)
    tiny = workloads.get("tiny")
    single = msgspec.structs.replace(tiny, check=msgspec.structs.replace(tiny.check, dtype="float32"))
    verdict = runner.verdict(case(), single)
    assert asked == ["float32", "float64"]
    assert verdict.conclusion == "inconclusive"
    assert verdict.reason.startswith("in float64 in float64; in float32 alone it in float32. A flipped ReLU")
    conclusions["float64"] = "different"
    again = msgspec.structs.replace(single, seed=1)
    assert runner.verdict(case(), again).reason == "in float32"


def test_what_a_rank_lacks_is_no_failure(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = RankFailure(
        "...", case="c", rank=0, kind="exception", cause="raised MissingRequirementError: needs a moon"
    )

    def run(*_groups: object, timeout_s: float) -> None:
        raise failure

    monkeypatch.setattr(runner.pool, "run", run)
    with pytest.raises(MissingRequirementError, match=r"^needs a moon$"):
        runner.verdict(case())


def test_a_rank_that_finds_no_room_is_told_with_the_way_out(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = RankFailure("[Errno 28] No space left on device", case="c", rank=0, kind="exception", cause="")

    def run(*_groups: object, timeout_s: float) -> None:
        raise failure

    monkeypatch.setattr(runner.pool, "run", run)
    with pytest.raises(StoreError, match="LOCKSTEP_SCRATCH"):
        runner.verdict(case())


def test_a_zygote_imports_what_its_installed_strategies_and_all_ranks_need(numpy_strategies: ModuleType) -> None:
    declare = strategies.strategy
    for name, requires in (("here", ()), ("absent", ("no_such_package",))):
        declare(
            f"numpy-{name}",
            framework="plain",
            requires=requires,
            backends={"cpu": "x"},
            reference_of="plain-serial",
            preload=(f"module_of_{name}",),
        )(numpy_strategies.total)
    # What a reference's zygote imports must not be for a strategy from elsewhere to say.
    assert "module_of_here" not in module.preload("plain")
    asked = module.preload("plain for numpy-here")
    assert asked[0] == "module_of_here"
    assert "module_of_absent" not in asked
    assert {"harness.datasets.digits", "harness.models.mlp"} <= set(asked)


@pytest.mark.parametrize(
    ("place", "ours"),
    [
        ("harness.strategies.torch_ddp:train", True),
        # So it is written where an editable install is seen from another folder.
        (f"{Path(module.__file__ or '').parent}/strategies/torch_ddp.py:train", True),
        ("harness_of_mine:train", False),
        ("/elsewhere/harness/strategies/torch_ddp.py:train", False),
    ],
)
def test_a_strategy_of_this_package_is_known_as_such_from_any_folder(place: str, ours: bool) -> None:
    assert module._ours(place) == ours
