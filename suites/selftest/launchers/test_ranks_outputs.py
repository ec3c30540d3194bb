"""What ranks printed comes with a failure: of every rank of the training, the guilty one's first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.launchers import outputs
from harness.launchers.local import Group, Pool, RankFailure

Fail = Callable[..., RankFailure]


def test_a_short_output_is_kept_whole(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("one\ntwo\n")
    log = outputs.read("rank 0", tmp_path / "log", 100)
    assert (log.text, log.num_bytes) == ("one\ntwo", 8)


def test_a_long_output_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("first\n" + "x" * 5_000 + "\nlast")
    log = outputs.read("rank 0", tmp_path / "log", 300)
    assert log.text.startswith("first\n")
    assert log.text.endswith("\nlast")
    assert "[... 4711 bytes ...]" in log.text
    assert log.num_bytes == 5_011


def test_output_may_be_anything(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\xff\x00\x1b[31m")
    assert outputs.read("rank 0", tmp_path / "log", 300).text == "\ufffd\x00\x1b[31m"


def test_every_rank_of_a_sound_training_is_told_of_though_it_prints_nothing(
    pool: Pool, group: Callable[..., Group]
) -> None:
    sound = group("ok", 3)
    pool.run([sound], timeout_s=30)
    found = outputs.of(sound.jobs)
    assert [(log.who, log.text, log.num_bytes) for log in found] == [(f"rank {rank}", "", 0) for rank in range(3)]


def test_ranks_that_never_started_have_no_output(group: Callable[..., Group]) -> None:
    assert outputs.of(group("ok").jobs) == ()


def test_not_more_ranks_are_told_of_than_are_read(group: Callable[..., Group], tmp_path: Path) -> None:
    many = group("ok", 20)
    outputs.file_of(many.jobs[0]).parent.mkdir()
    for job in many.jobs:
        outputs.file_of(job).touch()
    assert [log.who for log in outputs.of(many.jobs)] == [f"rank {rank}" for rank in range(outputs.MOST_RANKS)]


def test_a_failure_brings_the_output_of_all_three_ranks_and_the_stack_of_the_guilty_one(failure_of: Fail) -> None:
    failure = failure_of("behave", num_ranks=3, guilty=1, behaviour="raises")
    assert [log.who for log in failure.outputs] == ["rank 1", "rank 0", "rank 2"]
    assert 'raise ValueError("the loss is not a number")' in failure.outputs[0].stack
    assert [Path(log.path).name for log in failure.outputs] == ["rank1.log", "rank0.log", "rank2.log"]


def test_a_flood_is_cut_and_its_size_told(failure_of: Fail) -> None:
    guilty = failure_of("behave", guilty=0, behaviour="floods").outputs[0]
    assert guilty.num_bytes > 20_000_000
    assert "the last words" in guilty.text
    assert 10_000 < len(guilty.text) < 20_000


def test_a_process_left_behind_brings_the_output_of_its_training(failure_of: Fail) -> None:
    failure = failure_of("behave", guilty=1, behaviour="starts a program")
    assert failure.kind == "stray"
    assert [log.who for log in failure.outputs] == ["rank 0", "rank 1"]


def test_only_the_guilty_training_is_told_of_where_several_run_side_by_side(
    pool: Pool, group: Callable[..., Group]
) -> None:
    with pytest.raises(RankFailure) as caught:
        pool.run([group("steps"), group("behave", guilty=1, behaviour="exits")], timeout_s=30)
    assert [log.who for log in caught.value.outputs] == ["behave rank 1", "behave rank 0"]
