"""Random small trainings under every exact PyTorch strategy; what fails is shrunk and told as a command."""

from __future__ import annotations

import drawing
import pytest
from hypothesis import HealthCheck, Phase, event, find, given, settings
from hypothesis.errors import NoSuchExample

from harness.errors import HarnessError
from harness.plugin import HARNESS
from harness.record import Verdict
from harness.runner import Runner
from harness.spec import Case, Fault, Workload

pytestmark = [pytest.mark.conformance, pytest.mark.torch, pytest.mark.xdist_group("torch")]
# The everyday run draws a sample; the full scale as many as a release deserves.
NUM_EXAMPLES = {"quick": 20, "full": 200}


def judged(runner: Runner, case: Case, workload: Workload) -> Verdict:
    try:
        return runner.verdict(case, workload)
    except HarnessError as error:
        raise AssertionError(f"{error}\nrepeat: {drawing.command(case, workload)}") from error


def test_random_trainings_equal_serial(ls_runner: Runner, request: pytest.FixtureRequest) -> None:
    selection = request.config.stash[HARNESS].options.selection
    if selection.asked:
        pytest.skip("particular cases were asked for, and these are none")

    # The examples of a release differ from the last one's; everyday ones stay, so that a failure has one cause.
    @settings(
        max_examples=NUM_EXAMPLES[selection.scale],
        deadline=None,
        database=None,
        derandomize=selection.scale == "quick",
        suppress_health_check=list(HealthCheck),
    )
    @given(drawing.trainings())
    def check(drawn: tuple[Case, Workload]) -> None:
        case, workload = drawn
        verdict = judged(ls_runner, case, workload)
        event(f"{case.strategy} {verdict.conclusion}")
        # A training whose gradients are all rounding noise shows nothing either way.
        assert verdict.conclusion != "different", f"{verdict}\nrepeat: {drawing.command(case, workload)}"

    check()


def test_a_bug_in_random_trainings_is_shrunk_to_a_small_one(ls_runner: Runner, request: pytest.FixtureRequest) -> None:
    if request.config.stash[HARNESS].options.selection.asked:
        pytest.skip("particular cases were asked for, and these are none")
    fault = Fault(name="sum-for-mean")
    seen: list[tuple[Case, Workload]] = []

    def is_wrong(drawn: tuple[Case, Workload]) -> bool:
        seen.append(drawn)
        return ls_runner.verdict(*drawn, fault).conclusion == "different"

    few = settings(
        max_examples=20,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    try:
        case, workload = find(drawing.trainings(only="torch-ddp"), is_wrong, settings=few)
    except NoSuchExample:
        pytest.fail(f"the bug was not seen in any of {len(seen)} trainings")
    assert case.world_size == 2
    assert workload.check.num_steps == 2
    assert workload.accumulation == 1
    assert f"--ls-strategy={case.strategy}" in drawing.command(case, workload)
