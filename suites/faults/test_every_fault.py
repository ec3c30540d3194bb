"""The oracle's negative controls: every declared bug is caught where it first acts, and nothing is where there is none.

Every bug on its first strategy and a sample of all else; at ``--ls-scale=full`` every bug on every strategy.
"""

from __future__ import annotations

import dataclasses

import pytest

from harness import controls
from harness.controls import Control
from harness.errors import RankError
from harness.injection import Injection
from harness.record import Verdict
from harness.runner import Runner
from harness.spec import Case, Workload
from harness.strategies import base as strategies

pytestmark = pytest.mark.faults
# A hang is waited for so long; frameworks that compile first say nothing for longer.
HANG_S, SLOW_HANG_S = 5.0, 20.0


def marks(case: Case) -> list[pytest.MarkDecorator]:
    """Return the markers of a case's strategy."""
    own = strategies.get(case.strategy)
    return [getattr(pytest.mark, name) for name in (own.framework, *own.markers)] + [
        pytest.mark.xdist_group(own.framework)
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the tests below the controls of the scale."""
    scale = metafunc.config.getoption("--ls-scale")
    if "control" in metafunc.fixturenames:
        found = controls.controls(scale)
        metafunc.parametrize("control", [pytest.param(own, marks=marks(own.case), id=own.id) for own in found])
    elif "clean" in metafunc.fixturenames:
        pairs = controls.clean(controls.controls(scale))
        metafunc.parametrize("clean", [pytest.param(own, marks=marks(own[0]), id=own[0].id) for own in pairs])


def test_a_bug_is_caught_where_it_first_acts(control: Control, ls_injection: Injection) -> None:
    if control.expected.failure:
        with pytest.raises(RankError) as raised:
            ls_injection.verdict(control, _waiting(ls_injection.runner, control))
        assert control.expected.failure in str(raised.value)
        return
    verdict = ls_injection.verdict(control)
    assert verdict.conclusion == "different", verdict
    assert misplaced(control, verdict) == []


def test_without_a_bug_the_same_training_is_equivalent(clean: tuple[Case, Workload], ls_runner: Runner) -> None:
    verdict = ls_runner.verdict(*clean)
    assert verdict.equivalent, verdict


def misplaced(control: Control, verdict: Verdict) -> list[str]:
    """Return in what a verdict does not name the place that is expected."""
    expected, seen = control.expected, verdict.divergence
    assert seen is not None
    told = []
    if expected.rungs and seen.rung not in expected.rungs:
        told.append(f"expected rung {' or '.join(expected.rungs)} but got {seen.rung}")
    if not expected.step <= seen.step <= expected.step + 1:
        told.append(f"expected step {expected.step} or the next but got {seen.step}")
    if expected.ranks and seen.rank not in expected.ranks:
        told.append(f"expected rank {expected.ranks} but got {seen.rank}")
    # The state of a parameter bears its name: ``momentum:dense1.weight``.
    if expected.tensors and seen.tensor.rpartition(":")[2] not in expected.tensors:
        told.append(f"expected tensor {' or '.join(expected.tensors)} but got {seen.tensor}")
    return told


def _waiting(runner: Runner, control: Control) -> Runner:
    """Return the runner, with less patience where ranks are bound to hang."""
    if "hung" not in control.expected.failure:
        return runner
    timeout_s = SLOW_HANG_S if strategies.get(control.case.strategy).slow else HANG_S
    return Runner(dataclasses.replace(runner.settings, timeout_s=timeout_s), runner.pool, runner.trainings.kept)
