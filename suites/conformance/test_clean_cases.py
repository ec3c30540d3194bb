"""Sound trainings at random under every exact PyTorch strategy: the oracle must call none of them different."""

from __future__ import annotations

import dataclasses
import itertools

import clean_drawing
import drawing
import pytest

from harness.errors import HarnessError
from harness.plugin import HARNESS
from harness.runner import Runner

pytestmark = [pytest.mark.conformance, pytest.mark.torch, pytest.mark.xdist_group("torch")]
# Parts, so that progress shows, and cases in each: the everyday run has 500 in all. ``bench_false_alarms.py`` judges
# 10,000, those of slow libraries among them.
NUM_PARTS, NUM_CASES = 10, {"quick": 50, "full": 200}


@pytest.mark.parametrize("part", range(NUM_PARTS))
def test_no_sound_training_is_called_different(part: int, ls_runner: Runner, request: pytest.FixtureRequest) -> None:
    selection = request.config.stash[HARNESS].options.selection
    if selection.asked:
        pytest.skip("particular cases were asked for, and these are none")
    # What these would catch is not asked here, so no mutants are trained.
    runner = Runner(dataclasses.replace(ls_runner.settings, power=False), ls_runner.pool, ls_runner.trainings.kept)
    drawn = (clean_drawing.drawn(part, number, others=False) for number in itertools.count())
    cases = ((case, found.workload) for found in drawn for case in found.cases())
    wrong = []
    for case, workload in itertools.islice(cases, NUM_CASES[selection.scale]):
        try:
            verdict = runner.verdict(case, workload)
        except HarnessError as error:
            wrong.append(f"{error}\nrepeat: {drawing.command(case, workload)}")
            continue
        # What moves too little in a low precision shows nothing either way.
        if verdict.conclusion == "different":
            wrong.append(f"{verdict}\nrepeat: {drawing.command(case, workload)}")
    assert not wrong, "\n".join(wrong)


def test_every_sound_strategy_is_drawn() -> None:
    drawn = {strategy.name for number in range(400) for strategy in clean_drawing.drawn(1, number).strategies}
    sound = (strategy for world_size in (2, 3, 4) for strategy in clean_drawing.sound(world_size))
    # What is known to differ on every workload is not drawn.
    assert {strategy.name for strategy in sound if "*" not in strategy.findings} <= drawn
