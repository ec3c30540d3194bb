from __future__ import annotations

import pytest

from harness import Case, jobs, workloads
from harness.errors import SpecError
from harness.launchers import base as launchers
from harness.strategies import base as strategies

strategies.discover()


def test_the_strategy_names_a_launcher_that_exists() -> None:
    declared = strategies.get("horovod-torch")
    assert launchers.get(declared.launcher).__module__ == "harness.launchers.horovod"


@pytest.mark.parametrize(
    ("chosen", "workload", "said"),
    [
        ("fusion-mb=-1", "digits-mlp", "expected fusion-mb of at least 0 but got fusion-mb=-1.0"),
        ("fusion-mb=nan", "digits-mlp", "expected fusion-mb of at least 0 but got fusion-mb=nan"),
        ("groups=-2", "digits-mlp", "expected groups of at least 0 but got groups=-2"),
        ("groups=2", "digits-routed-mlp", "expected groups=0 .* Horovod 0.28.1 waits for ever"),
        ("compression=fp8", "digits-mlp", "expected option 'compression' .* among none, fp16 but got 'fp8'"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_rank_starts(chosen: str, workload: str, said: str) -> None:
    name = f"horovod-torch+{chosen}"
    case = Case(workload=workload, strategy=name, world_size=2)
    with pytest.raises(SpecError, match=said):
        jobs.validate(case, workloads.get(workload), strategies.get(name))
