"""Which cases a selection has, and what each lacks on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from harness import cases, workloads
from harness.cases import Selection
from harness.errors import UnknownNameError
from harness.measure import machine
from harness.spec import Case, Job, Workload
from harness.strategies import base as strategies

SMALL = Workload(name="small", model="mlp", dataset="synthetic")
LARGE = Workload(name="large", model="mlp", dataset="synthetic")


def train(job: Job) -> tuple[()]:
    return ()


def small() -> Workload:
    return SMALL


def large() -> Workload:
    return LARGE


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    """Two workloads, of which one is a smoke test, and three strategies, known to these tests only."""
    with strategies._registry.passing(), workloads._registry.passing():
        strategies.strategies()
        strategies._registry._entries = {}
        workloads._registry._entries = {}
        workloads.workload("smoke", "conformance")(small)
        workloads.workload("conformance", "performance", needs_data=True)(large)
        declare = strategies.strategy
        declare("serial", framework="f", requires=(), backends={"cpu": "none"}, reference_of=None)(train)
        declare(
            "both",
            framework="f",
            requires=(),
            backends={"cpu": "x", "cuda": "y"},
            reference_of="serial",
            world_sizes=(2, 4),
            markers=("extra", "f"),
        )(train)
        declare(
            "gpus-only",
            framework="g",
            requires=(),
            backends={"cuda": "y"},
            unsupported={"cpu": "needs GPUs"},
            reference_of="serial",
        )(train)
        yield


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the machine have as many GPUs as this list says."""
    found = [0]
    monkeypatch.setattr(machine, "cuda_devices", lambda: found[0])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    return found


def ids(selection: Selection, suite: cases.Suite = "conformance") -> list[str]:
    return [offer.case.id for offer in cases.offers(selection, suite)]


def lacks(selection: Selection, case: str) -> str | None:
    (found,) = (offer for offer in cases.offers(selection, "conformance") if offer.case.id == case)
    return found.lacks


def test_quick_runs_two_ranks_of_all_and_more_of_the_smoke_cases() -> None:
    # Without GPUs their cases are told on the smoke workload only.
    assert ids(Selection(data_root="x")) == [
        "large/both/2/cpu",
        "small/both/2/cpu",
        "small/both/4/cpu",
        "small/both/2/cuda",
        "small/both/4/cuda",
        "small/gpus-only/2/cpu",
        "small/gpus-only/2/cuda",
    ]


def test_full_runs_every_world_size(gpus: list[int]) -> None:
    gpus[0] = 8
    assert "large/both/4/cpu" in ids(Selection(scale="full"))
    assert "large/both/4/cuda" in ids(Selection(scale="full"))
    assert "large/both/4/cpu" not in ids(Selection())


def test_a_suite_runs_the_workloads_that_ask_for_it() -> None:
    assert {case.split("/")[0] for case in ids(Selection(), "performance")} == {"large"}
    assert {case.split("/")[0] for case in ids(Selection(workloads=("small",)), "performance")} == {"small"}


def test_a_selection_leaves_only_what_it_names() -> None:
    chosen = Selection(strategies=("both",), workloads=("large",), world_sizes=(3,), devices=("cpu",))
    assert ids(chosen) == ["large/both/3/cpu"]
    assert chosen.asked
    assert not Selection(scale="full", data_root="x", oversubscribe=True).asked


def test_a_selection_says_whether_it_allows_a_case() -> None:
    case = Case(workload="w", strategy="s", world_size=2)
    assert Selection().allows(case)
    assert Selection(strategies=("s", "t"), world_sizes=(2,)).allows(case)
    assert not Selection(strategies=("t",)).allows(case)
    assert not Selection(strategies=("s",), devices=("cuda",)).allows(case)


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    Selection(strategies=("both",), workloads=("small", "large")).validate()
    with pytest.raises(UnknownNameError, match="unknown strategy 'bath'; did you mean 'both'"):
        Selection(strategies=("bath",)).validate()
    with pytest.raises(UnknownNameError, match="unknown workload 'lage'; did you mean 'large'"):
        Selection(workloads=("lage",)).validate()


def test_a_workload_that_only_a_marker_knows_is_known() -> None:
    Selection(workloads=("mine",)).validate([Case(workload="mine", strategy="both", world_size=2)])


def test_markers_follow_from_the_case(gpus: list[int]) -> None:
    gpus[0] = 2
    marked = {o.case.id: o.markers for o in cases.offers(Selection(data_root="x"), "conformance")}
    assert marked["small/both/2/cpu"] == ("f", "extra", "cpu", "smoke")
    assert marked["small/both/4/cpu"] == ("f", "extra", "cpu")
    assert marked["large/both/2/cuda"] == ("f", "extra", "gpu2")


def test_ranks_that_share_one_gpu_use_one(gpus: list[int]) -> None:
    gpus[0] = 1
    shared = Selection(oversubscribe=True)
    assert lacks(shared, "small/both/4/cuda") is None
    assert lacks(Selection(), "small/both/4/cuda") == "needs 4 CUDA devices, found 1 (CUDA_VISIBLE_DEVICES: 0,1)"
    (markers,) = (o.markers for o in cases.offers(shared, "conformance") if o.case.id == "small/both/4/cuda")
    assert "gpu1" in markers
    four = Case(workload="small", strategy="both", world_size=4, device="cuda")
    assert cases.share_gpu(four, shared)
    assert not cases.share_gpu(four, Selection())
    assert not cases.share_gpu(msgspec.structs.replace(four, world_size=1), shared)


def test_what_a_case_lacks_is_said() -> None:
    assert lacks(Selection(), "small/both/2/cpu") is None
    assert lacks(Selection(), "small/gpus-only/2/cpu") == "needs GPUs"
    assert (
        lacks(Selection(), "large/both/2/cpu")
        == "workload large reads data files; name their folder with --ls-data-root"
    )
    assert lacks(Selection(data_root="x"), "large/both/2/cpu") is None


def test_a_single_missing_gpu_is_told_in_the_singular(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert cases.too_few_gpus(1) == "needs 1 CUDA device, found 0 (CUDA_VISIBLE_DEVICES: not set)"
    assert cases.too_few_gpus(0) is None
