"""The matrix of strategies by workloads: what has a cell, and what comes first."""

from __future__ import annotations

from fixtures.sample_records import record, sample, skipped
from harness.report.sections import verdicts
from harness.report.sections.verdicts import matrix
from harness.store import merge


def test_the_matrix_has_a_row_per_strategy_world_size_and_device_and_references_come_last() -> None:
    columns, rows = matrix(merge(sample()))
    assert columns == ["digits-cnn", "digits-mlp", "mnist-cnn"]
    assert [place for place in rows if place[1] < 2] == list(rows)[-2:]
    assert rows["torch-ddp", 4, "cpu"].keys() == {"digits-mlp"}


def test_two_definitions_of_one_workload_do_not_hide_each_other() -> None:
    records = [record(), record("torch-threads", workload_digest="other0000000", conclusion="different")]
    columns, rows = matrix(records)
    assert columns == ["digits-mlp (0a1b2c3d4e5f)", "digits-mlp (other0000000)"]
    assert sum(len(cases) for cases in rows.values()) == 2


def test_rows_with_something_wrong_come_first_and_2_comes_before_10() -> None:
    sound = [record(f"s{number}", workload=f"w{number}") for number in (10, 2, 1)]
    columns, rows = matrix([*sound, record("z", conclusion="different"), record("y", conclusion="inconclusive")])
    assert [strategy for strategy, _, _ in rows] == ["z", "y", "s1", "s2", "s10"]
    assert columns == ["digits-mlp", "w1", "w2", "w10"]


def test_a_case_that_was_asked_for_and_not_verified_has_a_cell() -> None:
    columns, rows = matrix([record(), skipped("torch-ddp", "w", 2, "no GPU"), skipped("torch-dp", "w", 2, "no GPU")])
    assert columns == ["digits-mlp", "w"]
    assert {place: list(row) for place, row in rows.items()} == {
        ("torch-ddp", 2, "cpu"): ["digits-mlp", "w"],
        ("torch-dp", 2, "cpu"): ["w"],
    }


def test_ten_thousand_skipped_cases_do_not_hide_the_others() -> None:
    judged = [record(), record("torch-threads"), record(workload="digits-cnn")]
    unverified = [skipped(f"s{at}", f"w{at % 100}", 2, "no GPU") for at in range(verdicts.SMALL)]
    columns, rows = matrix(merge([*judged, *unverified, skipped("torch-threads", "digits-cnn", 2, "no GPU")]))
    assert columns == ["digits-cnn", "digits-mlp"]
    assert {place: len(row) for place, row in rows.items()} == {
        ("torch-ddp", 2, "cpu"): 2,
        ("torch-threads", 2, "cpu"): 2,
    }
