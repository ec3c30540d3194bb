from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from harness import legs, workloads
from harness.record import Trace, Verdict
from harness.recorder import Recorder, read
from harness.spec import Check, Job, Workload

RESUMED = msgspec.structs.replace(workloads.get("digits-mlp"), check=Check(num_steps=4, resume_at=2, resume_ranks=3))


def trace(folder: Path, workload: Workload) -> Trace:
    recorder = Recorder(Job(function="-:-", strategy="-", workload=workload, directory=str(folder)))
    recorder.tap("parameters", -1, "w", np.array([-1.0]))
    for step in range(4):
        recorder.tap("loss", step, "loss", np.float64(step))
        recorder.tap("parameters", step, "w", np.array([float(step)]))
    recorder.tap("predictions", 3, "logits", np.zeros((2, 2)))
    return recorder.traces()[0]


def test_a_check_in_one_go_has_no_legs() -> None:
    assert legs.stages(workloads.get("digits-mlp"), 2, Path("x")) == ()


def test_the_second_leg_goes_on_where_the_first_saved_with_its_own_number_of_ranks() -> None:
    before, after = legs.stages(RESUMED, 2, Path("x"))
    assert (before.leg.first, before.leg.last, before.world_size) == (0, 2, 2)
    assert (after.leg.first, after.leg.last, after.world_size) == (2, 4, 3)
    assert before.leg.save == after.leg.load == "x"
    assert not before.leg.load
    assert not after.leg.save


def test_the_reference_of_a_leg_shows_the_steps_of_that_leg_and_what_it_starts_from(tmp_path: Path) -> None:
    whole = trace(tmp_path, RESUMED)
    for number, stage in enumerate(legs.stages(RESUMED, 2, Path("x"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        part = legs.during(whole, stage.leg, folder)
        assert part.rungs["loss"].steps == ((0, 1), (2, 3))[number]
        assert part.rungs["parameters"].steps == ((-1, 0, 1), (1, 2, 3))[number]
        assert read(part.rungs["parameters"])[:, 0].tolist() == list(part.rungs["parameters"].steps)
        assert ("predictions" in part.rungs) == (number == 1)


def test_a_difference_before_saving_is_told_rather_than_what_follows() -> None:
    stages = legs.stages(RESUMED, 2, Path("x"))
    good, bad = Verdict(conclusion="equivalent", reason="equal"), Verdict(conclusion="different", reason="off")
    assert legs.joint([bad], stages).reason == "off (before it was saved at step 2)"
    assert legs.joint([good, bad], stages).reason == "off (saved at step 2 by 2 ranks and resumed by 3)"
    assert legs.joint([good, good], stages).equivalent


def test_a_reference_is_never_interrupted() -> None:
    assert legs.uninterrupted(RESUMED).check == Check(num_steps=4)
