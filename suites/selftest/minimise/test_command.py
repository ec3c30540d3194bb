"""``harness minimise`` in words; what it does with real ranks is in suites/faults."""

from __future__ import annotations

import shlex

import pytest

from harness import Case, Workload, workloads
from harness.cli import main
from harness.minimise.command import asked, lines
from harness.minimise.shrink import Minimised
from harness.record import Divergence, Verdict
from harness.spec import Fault

CASE = Case(workload="digits-mlp", strategy="torch-ddp", world_size=2)


def test_a_registered_workload_is_asked_for_by_its_case() -> None:
    assert asked(CASE, workloads.get("digits-mlp")) == "harness minimise digits-mlp/torch-ddp/2/cpu"


def test_any_other_workload_is_asked_for_in_json() -> None:
    own = Workload(name="nobody-registered-it", model="mlp", dataset="synthetic", seed=3)
    words = shlex.split(asked(CASE, own, Fault(name="sum-for-mean")))
    assert "--strategy=torch-ddp" in words
    assert "--fault=sum-for-mean" in words
    (described,) = [word for word in words if word.startswith("--workload=")]
    assert '"seed":3' in described


def test_what_is_left_is_told_with_a_command() -> None:
    first = Divergence(rung="loss", step=0, rank=0, tensor="loss", observed=0.2, floor=0.0, threshold=0.0)
    equal_to_its_own = Verdict(conclusion="equivalent", reason="equal", reference="per-shard-batchnorm", plain=first)
    left = Workload(name="smallest", model="mlp", dataset="synthetic")
    found = Minimised(
        case=CASE, workload=left, verdict=equal_to_its_own, removed=("momentum",), num_tried=7, finished=False
    )
    size, where, repeat = lines(found)
    assert size.startswith("torch-ddp: 2 ranks, 6 step(s), 91 sample(s), after 7 cases; the time was up")
    assert where == "differs from plain serial training first in loss at step 0: |difference| 0.2"
    assert repeat.startswith("repeat: pytest suites/conformance/test_parity.py --ls-strategy=torch-ddp")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected a CASE, or --strategy and --workload"),
        (["digits-mlp/torch-ddp"], "expected a case WORKLOAD/STRATEGY/WORLD_SIZE/DEVICE"),
        (["digits-mlp/torch-ddp/none/cpu"], "expected a case WORKLOAD/STRATEGY/WORLD_SIZE/DEVICE"),
        (["digits-mlp/torch-dpp/2/cpu"], "did you mean"),
        (["--strategy=torch-ddp", "--workload={}"], "expected a workload as a JSON object"),
    ],
)
def test_a_case_that_is_none_is_refused_in_words(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["minimise", *arguments]) == 2
    assert said in capsys.readouterr().err
