"""Traces that do not fit their reference are bad input, said with what is wrong; what is not shown is listed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from oracle_toy import Clean, off, reordered

from harness.errors import SpecError, TraceError
from harness.record import Rung, Trace


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    return Clean(tmp_path_factory.mktemp("clean"))


def test_a_rung_that_is_not_shown_must_be_declared(clean: Clean) -> None:
    rung: Rung = "gradients before clipping"
    traces = clean.parallel(leave_out=(rung,))
    with pytest.raises(TraceError, match=r"'gradients before clipping': neither shown nor declared by rank 0, 1"):
        clean.verdict(traces)
    declared = [msgspec.structs.replace(trace, not_shown={rung: "fused into backward"}) for trace in traces]
    verdict = clean.verdict(declared)
    assert verdict.equivalent
    assert verdict.not_shown == {rung: "fused into backward"}
    partly = [declared[0], clean.parallel()[1]]
    assert clean.verdict(partly).not_shown == {rung: "on rank 0: fused into backward"}


def test_a_rung_that_exists_nowhere_is_not_missed(clean: Clean, tmp_path: Path) -> None:
    setting = Clean(tmp_path, leave_out=("gradients after clipping", "buffers", "buffers at next forward"))
    verdict = setting.judge()
    assert verdict.equivalent
    assert len(verdict.rungs) == 7
    with pytest.raises(TraceError, match="is it the reference of this workload"):
        setting.verdict(clean.parallel())


def test_rank_0s_buffers_cannot_be_left_out_unnoticed(clean: Clean) -> None:
    traces = clean.parallel()
    rungs = {rung: file for rung, file in traces[0].rungs.items() if rung != "buffers"}
    with pytest.raises(TraceError, match="'buffers': neither shown nor declared by rank 0"):
        clean.verdict([msgspec.structs.replace(traces[0], rungs=rungs), traces[1]])


def replaced(trace: Trace, rung: Rung, **changes: object) -> Trace:
    file = msgspec.structs.replace(trace.rungs[rung], **changes)
    return msgspec.structs.replace(trace, rungs=trace.rungs | {rung: file})


def test_other_tensors_are_bad_input_and_named(clean: Clean) -> None:
    first, second = clean.parallel()
    tensors = second.rungs["parameters"].tensors
    renamed = tuple(msgspec.structs.replace(tensor, name=f"module.{tensor.name}") for tensor in tensors)
    with pytest.raises(TraceError, match=r"'parameters' of rank 1: .* lacks one.weight, .* has module.one.weight, "):
        clean.verdict([first, replaced(second, "parameters", tensors=renamed)])
    turned = (msgspec.structs.replace(tensors[0], shape=tensors[0].shape[::-1]), *tensors[1:])
    with pytest.raises(TraceError, match=r"expected shape \(6, 5\) of one.weight .* got \(5, 6\); tap whole tensors"):
        clean.verdict([first, replaced(second, "parameters", tensors=turned)])


def test_other_steps_are_bad_input(clean: Clean) -> None:
    first, second = clean.parallel()
    with pytest.raises(TraceError, match="'loss' of rank 1: expected steps 0 to 5 as in the reference but got 1 to 6"):
        clean.verdict([first, replaced(second, "loss", steps=(1, 2, 3, 4, 5, 6))])
    with pytest.raises(TraceError, match="'data order' of rank 1: expected steps"):
        clean.verdict([first, replaced(second, "data order", steps=(1, 2, 3, 4, 5, 6))])


def test_tensors_in_another_order_are_compared_by_name(clean: Clean, tmp_path: Path) -> None:
    traces = clean.parallel()
    shuffled = [reordered(trace, tmp_path / f"order{trace.rank}") for trace in traces]
    assert clean.verdict(shuffled) == clean.verdict(traces)
    tampered = clean.parallel(tamper=off("parameters", 2, 1, "two.weight"))
    found = clean.verdict([reordered(trace, tmp_path / f"tampered{trace.rank}") for trace in tampered]).divergence
    assert found is not None
    assert (found.rung, found.step, found.rank, found.tensor) == ("parameters", 2, 1, "two.weight")


@pytest.mark.parametrize("damage", ["truncated", "absent", "not an array", "other shape", "no numbers"])
def test_a_damaged_file_is_an_error_that_names_it(clean: Clean, damage: str) -> None:
    traces = clean.parallel()
    path = Path(traces[1].rungs["parameters"].file)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "absent":
        path.unlink()
    elif damage == "not an array":
        path.write_text("<html>")
    elif damage == "no numbers":
        np.save(path, np.load(path).astype(str))
    else:
        np.save(path, np.zeros((7, 3)))
    with pytest.raises(TraceError, match=f"{path.name}.*run the case again"):
        clean.verdict(traces)


def test_no_ranks_no_reruns_and_one_rank_twice_are_bad_input(clean: Clean) -> None:
    first, second = clean.parallel()
    with pytest.raises(TraceError, match="expected one trace from each rank"):
        clean.verdict([])
    with pytest.raises(TraceError, match=r"got ranks \[0, 0\]"):
        clean.verdict([first, first])
    with pytest.raises(TraceError, match="at least one rerun"):
        clean.verdict([first, second], reruns=[])
    with pytest.raises(SpecError, match="float16"):
        clean.verdict([first, second], dtype="float16")
    rungs = {rung: file for rung, file in clean.reruns[1].rungs.items() if rung != "loss"}
    lacking = msgspec.structs.replace(clean.reruns[1], rungs=rungs)
    with pytest.raises(TraceError, match="'loss' of rerun 1: expected it as in the reference"):
        clean.verdict([first, second], reruns=[clean.reruns[0], lacking])
