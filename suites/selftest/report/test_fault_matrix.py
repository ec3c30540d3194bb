"""The matrix of injected faults: what was missed comes first, and no matrix without faults."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from fixtures.sample_records import divergence, hostile, record, sample, skipped, verdict
from harness.faults import base as faults
from harness.record import Conclusion, Diagnosis, Record
from harness.report.sections import fault_matrix

RIGHT = faults.get("sum-for-mean").causes[0]


def matrix(records: list[Record]) -> fault_matrix.Matrix:
    return fault_matrix.matrix(records, {id(told): line for line, told in enumerate(records)})


def fault(
    name: str = "sum-for-mean", conclusion: Conclusion = "different", cause: str | None = RIGHT, **changes: Any
) -> Record:
    judged = verdict(conclusion)
    if cause is not None:
        named = Diagnosis(cause=cause, confidence="certain", words="w", check="c", mend="m")
        judged = msgspec.structs.replace(judged, diagnosis=named)
    return record(conclusion=conclusion, evidence=judged, fault=name, **changes)


def test_a_cell_tells_the_outcome_where_it_was_seen_and_whether_the_cause_is_right() -> None:
    found = matrix([fault(), fault("mean-of-means", cause="not-reduced"), fault("stale-gradients", cause=None)])
    cells = {row.fault: row.cells[0] for row in found.rows}
    first = cells["sum-for-mean"]
    assert first is not None
    assert (first.outcome, first.named, first.seen) == ("caught", "right", "gradients before clipping, step 0")
    assert [cell.named for cell in cells.values() if cell] == ["wrong", "none", "right"]
    assert found.named == {"right": 1, "wrong": 1, "none": 1}
    assert found.rows[0].what


def test_what_was_missed_comes_first_then_what_is_unclear() -> None:
    unclear: Conclusion = "inconclusive"
    found = matrix([fault("a"), fault("b", unclear), fault("z", "equivalent"), fault("z", strategy="torchgpipe")])
    assert [row.fault for row in found.rows] == ["z", "b", "a"]
    assert [cell and cell.outcome for cell in found.rows[0].cells] == ["missed", "caught"]
    assert [cell and cell.outcome for cell in found.rows[2].cells] == ["caught", None]
    assert found.counts == {"missed": 1, "inconclusive": 1, "caught": 2}
    assert found.sentences[0] == (
        "Of 4 injected faults 2 came out different, as each must; missed: z on torch-ddp; inconclusive: b on torch-ddp."
    )


def test_a_missed_case_is_not_hidden_by_a_caught_one_of_the_same_cell() -> None:
    found = matrix([fault(workload="digits-mlp"), fault("sum-for-mean", "equivalent", None, workload="digits-cnn")])
    (row,) = found.rows
    assert row.cells[0] is not None
    assert row.cells[0].outcome == "missed"
    assert row.cells[0].cases == ("digits-cnn/torch-ddp/2/cpu", "digits-mlp/torch-ddp/2/cpu")
    assert row.cells[0].line == 1
    assert row.tried == 2
    assert row.missed == 1


def test_ranks_that_end_are_no_miss_and_a_case_that_was_not_run_is_none_at_all() -> None:
    died = skipped("torch-ddp", "digits-mlp", 2, "rank 1 died")
    ended = msgspec.structs.replace(died, fault="rank-exits", failed=True)
    unrun = msgspec.structs.replace(skipped("torch-ddp", "digits-mlp", 2, "needs 2 GPUs"), fault="clip-skipped")
    found = matrix([ended, unrun])
    assert found.counts == {"failed": 1, "not tried": 1}
    assert found.sentences[0] == (
        "Of 1 injected fault 0 came out different and 1 ended with an error, as each must; 1 more not tried here."
    )
    assert matrix([unrun]).upper is None
    assert matrix([unrun]).sentences == ("1 injected fault asked for, none tried here.",)


def test_columns_tell_sizes_and_devices_only_where_there_are_several() -> None:
    assert [one.label for one in matrix([fault()]).columns] == ["torch-ddp"]
    several = matrix([fault(), fault(world_size=4), fault(device="cuda")])
    assert [one.label for one in several.columns] == [
        "torch-ddp, 2 ranks, CPU",
        "torch-ddp, 2 ranks, CUDA",
        "torch-ddp, 4 ranks, CPU",
    ]


@pytest.mark.parametrize("total", [1, 93, 10_000])
def test_of_faults_that_were_all_seen_the_bound_is_exact(total: int) -> None:
    assert fault_matrix.upper_share(0, total) == pytest.approx(1 - 0.05 ** (1 / total))


@pytest.mark.parametrize(("count", "total"), [(0, 1), (0, 93), (5, 10), (9, 10), (40, 2000)])
def test_a_share_at_the_bound_would_be_seen_so_low_one_time_in_twenty(count: int, total: int) -> None:
    upper = fault_matrix.upper_share(count, total)
    ways = (math.comb(total, one) * upper**one * (1 - upper) ** (total - one) for one in range(count + 1))
    assert sum(ways) == pytest.approx(0.05)
    assert fault_matrix.upper_share(total, total) == 1


def test_a_run_without_faults_has_no_matrix() -> None:
    assert matrix([]) == matrix([record()]) == fault_matrix.Matrix()


def test_made_up_and_hostile_records_make_a_matrix() -> None:
    assert len(matrix(sample()).rows) == 2
    nasty = [msgspec.structs.replace(one, fault="<script>[\x1b") for one in hostile()]
    assert matrix(nasty).rows[0].what == ""
    seen = matrix([fault(divergence=divergence(step=-1))]).rows[0].cells[0]
    assert seen is not None
    assert seen.seen.endswith("before the first step")
