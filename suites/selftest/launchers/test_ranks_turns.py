"""Trainings that take turns: only one of them runs at a time, and trouble in a turn is told like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from harness.launchers.local import Group, Pool, RankFailure
from harness.wire import EpochDone, Message

MakeGroup = Callable[..., Group]


def test_epochs_come_back_for_every_rank_and_traces_at_the_end(pool: Pool, group: MakeGroup) -> None:
    with pool.open([group("timed"), group("restless", 1)], timeout_s=30) as session:
        epochs = [session.epoch(number) for number in (0, 1, 0, 1, 0)]
        traces = session.finish(0), session.finish(1)
    assert [len(ranks) for ranks in epochs] == [2, 1, 2, 1, 2]
    assert [ranks[0].num_samples for ranks in epochs] == [1, 1, 2, 2, 3]
    assert [[trace.losses for trace in group] for group in traces] == [[(0, 1, 2), (0, 1, 2)], [(0, 1)]]


def test_other_trainings_are_stopped_while_one_has_its_turn(pool: Pool, group: MakeGroup, tmp_path: Path) -> None:
    with pool.open([group("timed"), group("restless", 1)], timeout_s=30) as session:
        timed = [rank for number in (0, 1, 0, 1, 0) for rank in session.epoch(number) if number == 0]
        session.finish(1)
    ticks = [float(line) for line in (tmp_path / "restless" / "restless").read_text().splitlines()]
    assert ticks, "the other training does not even run in its own turn"
    assert not [tick for tick in ticks if any(epoch.start_s < tick < epoch.end_s for epoch in timed)]


def test_zygotes_are_stopped_during_a_turn_and_go_on_after_it(pool: Pool, group: MakeGroup) -> None:
    seen: list[str] = []

    def look(_index: int, message: Message) -> None:
        if isinstance(message, EpochDone):
            seen.extend(zygote.status() for zygote in _zygotes(pool))

    pool.warm("torch")
    with pool.open([group("timed", 1)], timeout_s=60, on_event=look) as session:
        session.epoch(0)
    assert set(seen) == {psutil.STATUS_STOPPED}
    assert psutil.STATUS_STOPPED not in {zygote.status() for zygote in _zygotes(pool)}


def _zygotes(pool: Pool) -> list[psutil.Process]:
    """Return the zygotes of this pool; the session that runs these tests may have its own."""
    found = [psutil.Process(family.pid) for family in pool._families.values() if family.pid is not None]
    assert found
    return found


@pytest.mark.parametrize("guilty", [0, 1])
def test_a_rank_that_dies_in_its_turn_is_named_with_its_signal(pool: Pool, group: MakeGroup, guilty: int) -> None:
    groups = [group("dies_in_turn", guilty=guilty), group("timed", 1)]
    with pool.open(groups, timeout_s=30) as session:
        session.epoch(1)
        with pytest.raises(RankFailure) as caught:
            session.epoch(0)
    assert (caught.value.case, caught.value.rank) == ("tiny/dies_in_turn/2/cpu", guilty)
    assert caught.value.cause == "was killed by SIGKILL (no step yet)"
    assert "  timed rank 0 waited for its turn" in caught.value.others


def test_a_rank_that_takes_no_turn_is_named_and_not_those_that_wait(pool: Pool, group: MakeGroup) -> None:
    groups = [group("timed"), group("behave_and_hang", guilty=1, behaviour="hangs")]
    with pool.open(groups, timeout_s=1) as session, pytest.raises(RankFailure) as caught:
        session.epoch(0)
    assert (caught.value.case, caught.value.rank, caught.value.kind) == ("tiny/behave_and_hang/2/cpu", 1, "hang")


@pytest.mark.parametrize("guilty", [0, 1])
@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("a backward clock", r"took a turn that cannot be timed: expected an epoch to end after its start"),
        ("no time", "expected 8 samples to take time but the epoch took 0 s"),
        (
            "an earlier start",
            "expected the epoch to begin when it is its turn but it began 60 s earlier|59.* s earlier",
        ),
        ("a later end", "expected the epoch to be over once the rank tells so but it ended .* s later"),
        ("not a number", "sent .*start_s.*null.*; a number that is not finite arrives as null"),
        ("nothing", "expected one epoch a turn but it told of 0; send EpochDone once"),
        ("two epochs", "expected one epoch a turn but it told of 2; send EpochDone once"),
    ],
)
def test_a_turn_that_cannot_be_timed_names_its_rank_and_the_way_out(
    pool: Pool, group: MakeGroup, guilty: int, told: str, words: str
) -> None:
    with pool.open([group("tells", guilty=guilty, told=told)], timeout_s=30) as session:
        session.epoch(0)
        with pytest.raises(RankFailure, match=words) as caught:
            session.epoch(0)
    assert (caught.value.case, caught.value.rank) == ("tiny/tells/2/cpu", guilty)
    assert caught.value.others == (f"  rank {1 - guilty} waited for its turn",)


def test_ranks_that_count_other_samples_are_refused(pool: Pool, group: MakeGroup) -> None:
    with pool.open([group("tells", 3, guilty=2, told="other samples")], timeout_s=30) as session:
        session.epoch(0)
        with pytest.raises(RankFailure, match="8 as most do, but it told 4; count the samples of the whole") as caught:
            session.epoch(0)
    assert caught.value.rank == 2


def test_a_rank_that_trains_nothing_of_its_own_may_take_no_time(pool: Pool, group: MakeGroup) -> None:
    with pool.open([group("tells", guilty=1, told="no samples")], timeout_s=30) as session:
        epochs = [session.epoch(0) for _ in range(3)]
        session.finish(0)
    assert [rank.num_samples for rank in epochs[-1]] == [8, 0]


@pytest.mark.parametrize("guilty", [0, 1])
def test_a_rank_that_returns_before_its_turns_are_over_is_named_at_once(
    pool: Pool, group: MakeGroup, guilty: int
) -> None:
    with (
        pool.open([group("returns_early", guilty=guilty)], timeout_s=600) as session,
        pytest.raises(RankFailure) as caught,
    ):
        session.epoch(0)
    assert (caught.value.case, caught.value.rank) == ("tiny/returns_early/2/cpu", guilty)
    assert caught.value.cause.startswith("returned before its turns were over: expected an epoch for every turn")


def test_a_rank_that_takes_no_turn_at_all_but_returns_is_named_at_once(pool: Pool, group: MakeGroup) -> None:
    with (
        pool.open([group("timed", 1), group("ok", 1)], timeout_s=600) as session,
        pytest.raises(RankFailure, match="returned before its turns were over") as caught,
    ):
        session.epoch(0)
    assert caught.value.case == "tiny/ok/1/cpu"
