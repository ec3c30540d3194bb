from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from harness.errors import DuplicateNameError, SpecError, UnknownNameError
from harness.resolve import resolve
from harness.spec import Job
from harness.strategies import base

base.discover()


@pytest.mark.parametrize("name", base.strategies())
def test_every_strategy_is_complete(name: str) -> None:
    strategy = base.get(name)
    assert strategy.summary
    assert callable(resolve(strategy.function))
    assert strategy.backends
    assert strategy.serial or base.get(strategy.reference_of or "").serial
    assert strategy.serial or any(size > 1 for size in strategy.world_sizes), "one rank is no parallelism"
    assert strategy.name in strategy.where.replace("_", "-"), "a strategy lives in the file that its name says"


def test_an_unknown_strategy_is_met_with_the_nearest_names() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown strategy 'torch-dpd'; did you mean .*'torch-ddp'"):
        base.get("torch-dpd")


def test_two_strategies_of_one_name_name_both_places() -> None:
    with pytest.raises(DuplicateNameError) as caught:
        base.strategy("torch-ddp", framework="torch", requires=(), backends={}, reference_of=None)(twin)
    assert "torch_ddp.py" in str(caught.value)
    assert "test_strategy_declarations.py" in str(caught.value)
    assert base.get("torch-ddp").where.rpartition(":")[0].endswith("torch_ddp.py"), "the first one stays"


def twin(job: Job) -> tuple[()]:
    return ()


def test_a_strategy_whose_package_is_absent_says_which() -> None:
    assert importlib.util.find_spec("no_such_library") is None
    with base._registry.passing():
        base.strategy("needy", framework="plain", requires=("no_such_library",), backends={}, reference_of=None)(twin)
        assert base.get("needy").missing() == "needs no_such_library, which is not installed"


def test_declaring_strategies_imports_no_framework() -> None:
    program = (
        "import sys; from harness.strategies import base; base.discover(); "
        "print(sorted({'torch', 'tensorflow', 'keras', 'horovod', 'torchgpipe', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("backends", {"cpuu": "gloo"}, "expected backends among cpu, cuda but got 'cpuu'"),
        ("world_sizes", (), "expected world_sizes to hold at least one number of ranks"),
        ("world_sizes", (2, 0), "expected world_sizes to hold at least one number of ranks"),
        ("batchnorm", "per-rank", "expected batchnorm among plain, per-shard, .* but got 'per-rank'"),
        ("not_shown", {"losses": "x"}, "expected not_shown among data order, .* but got 'losses'"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_where_it_is_declared(setting: str, value: object, said: str) -> None:
    settings: dict[str, object] = {"framework": "plain", "requires": (), "backends": {}, "reference_of": None}
    with pytest.raises(SpecError, match=said):
        base.strategy("odd", **(settings | {setting: value}))(twin)  # type: ignore[arg-type]
